# docker build -t lrfdse . && docker run --rm -v "$PWD:/models" lrfdse explore MODEL --target riscv64
# Debian 12 has QEMU, and LLVM 22 with its security updates: nothing comes from other sources but Python's packages.
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates llvm-22 make python3-venv qemu-user \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/lrfdse
# Before the system's own Python: `make check` of a C library finds the compiler, zig, there.
ENV PATH=/opt/lrfdse/bin:$PATH
COPY . /source
RUN pip install --no-cache-dir '/source[images]' && rm -rf /source \
    && lrfdse doctor --target riscv64 --target aarch64 --target armv7

ENV LRFDSE_CACHE=/models/.lrfdse-cache
WORKDIR /models
ENTRYPOINT ["lrfdse"]
CMD ["--help"]
