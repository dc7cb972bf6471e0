"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-figure]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const PRINT_WIDTH = 690;

  const inks = (printing) => {
    if (printing) return { ink: "#333", ground: "#fff" };
    const style = getComputedStyle(document.documentElement);
    return { ink: style.getPropertyValue("--soft").trim(), ground: style.getPropertyValue("--ground").trim() };
  };

  const largest = (name) => Math.max(...figures[name].data.flatMap((trace) => [...trace.x]));

  const layoutOf = (plot, printing) => {
    const { ink, ground } = inks(printing);
    const width = printing ? PRINT_WIDTH : plot.clientWidth;
    const narrow = width < 520;
    const layout = structuredClone(figures[plot.dataset.figure].layout);
    layout.width = width;
    layout.height = Math.round(narrow ? Math.max(380, width * 1.1) : Math.min(520, Math.max(360, width * 0.55)));
    if ("tall" in plot.dataset && !narrow) layout.height = Math.round(Math.min(680, Math.max(420, width * 0.55)));
    if (printing) layout.height = 330;
    layout.font.color = ink;
    layout.font.size = narrow ? 11 : 12;
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: ground, bordercolor: ink, font: { ...layout.hoverlabel.font, color: ink } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: "rgba(128,136,146,0.7)", activecolor: ink };
    layout.dragmode = touch ? false : "zoom";
    const scatter = plot.dataset.legend === "page";
    layout.showlegend = !scatter;
    // On a dark page the pale end of the scale stands out, so that is where the best scores go.
    if (layout.coloraxis && dark.matches && !printing) layout.coloraxis.reversescale = !layout.coloraxis.reversescale;
    layout.margin.t = 12;
    if (narrow && layout.xaxis.type === "log" && layout.xaxis.tickformat === ",~r" && largest(plot.dataset.figure) >= 1000) layout.xaxis.dtick = 1;
    if (layout.coloraxis && narrow) {
      const bar = layout.coloraxis.colorbar;
      layout.coloraxis.colorbar = { ...bar, orientation: "h", len: 1, y: 1.02, yanchor: "bottom" };
    }
    return layout;
  };

  const draw = (printing) => {
    for (const plot of plots) {
      Plotly.newPlot(plot, figures[plot.dataset.figure].data, layoutOf(plot, printing), config);
    }
  };

  const start = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(unpacked).text();
    document.head.append(script);
    draw(false);
    let width = innerWidth;
    let waiting = 0;
    addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        // On phones the height changes with every scroll, as the address bar comes and goes.
        if (innerWidth !== width) draw(false);
        width = innerWidth;
      }, 150);
    });
    dark.addEventListener("change", () => draw(false));
    addEventListener("beforeprint", () => draw(true));
    addEventListener("afterprint", () => draw(false));
    document.documentElement.dataset.plots = "drawn";
  };

  const sortable = (table) => {
    const body = table.tBodies[0];
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = head.querySelector("button");
      if (!button) continue;
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const order = (a, b) => {
          const [x, y] = [key(a), key(b)];
          const difference = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return rising ? difference : -difference;
        };
        body.append(...[...body.rows].sort(order));
      });
    }
  };
  document.querySelectorAll("table.sortable").forEach(sortable);

  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = !navigator.clipboard;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.closest("figure").querySelector("pre").textContent);
      button.textContent = "copied";
    });
  }

  start().catch((problem) => {
    document.documentElement.dataset.plots = "missing";
    console.warn(`plots need a browser of 2023 or newer: ${problem}`);
  });
})();
