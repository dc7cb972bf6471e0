# docker build -t lrfdse . && docker run --rm -v "$PWD:/models" lrfdse explore MODEL --target riscv64
# Its steps are those of docs/ci/github-actions.yml; no container was built from it where lrfdse's tests run.
FROM python:3.12-slim-trixie

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gnupg lsb-release make qemu-user wget \
    && wget --quiet --output-document=/usr/share/keyrings/llvm.asc https://apt.llvm.org/llvm-snapshot.gpg.key \
    && echo "deb [signed-by=/usr/share/keyrings/llvm.asc] https://apt.llvm.org/trixie/ llvm-toolchain-trixie-22 main" \
        > /etc/apt/sources.list.d/llvm.list \
    && apt-get update \
    && apt-get install --yes --no-install-recommends llvm-22 \
    && rm -rf /var/lib/apt/lists/*

COPY . /source
RUN pip install --no-cache-dir '/source[images]' && rm -rf /source \
    && lrfdse doctor --target riscv64 --target aarch64 --target armv7

ENV LRFDSE_CACHE=/models/.lrfdse-cache
WORKDIR /models
ENTRYPOINT ["lrfdse"]
CMD ["--help"]
