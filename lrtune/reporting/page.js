"use strict";
// Draws each chart from the JSON beside it. The legends are buttons instead of plotly's own, so
// that they wrap on narrow screens, follow the colours of the page, and work with a keyboard.
(() => {
  const NARROW = 640; // pixels; below it two panels stand one above the other
  const SVG = "http://www.w3.org/2000/svg";
  const DASHES = {
    dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3",
  };
  const SYMBOLS = {
    circle: "M5,0A5,5 0 1,1 -5,0A5,5 0 1,1 5,0Z",
    square: "M-4.5,-4.5H4.5V4.5H-4.5Z",
    diamond: "M0,-6L6,0L0,6L-6,0Z",
    "triangle-up": "M0,-5.5L5.5,4.5H-5.5Z",
    "triangle-down": "M0,5.5L5.5,-4.5H-5.5Z",
    cross: "M-2,-5.5H2V-2H5.5V2H2V5.5H-2V2H-5.5V-2H-2Z",
    x: "M-5.5,-3.2L-3.2,-5.5L0,-2.3L3.2,-5.5L5.5,-3.2L2.3,0L5.5,3.2L3.2,5.5L0,2.3L-3.2,5.5L-5.5,3.2L-2.3,0Z",
    star: "M0,-6L1.6,-2L5.8,-1.8L2.5,0.8L3.6,4.9L0,2.6L-3.6,4.9L-2.5,0.8L-5.8,-1.8L-1.6,-2Z",
    hexagon: "M-6,0L-3,-5.2H3L6,0L3,5.2H-3Z",
    arrow: "M0,-6L5,6H-5Z",
  };

  const element = (name, attributes, parent, space) => {
    const made = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  };

  // Names are written as entities for plotly, which would read them as markup otherwise.
  const plain = (text) => text.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)));

  const swatch = (trace, parent) => {
    const box = { width: 28, height: 12, viewBox: "-14 -6 28 12", "aria-hidden": "true" };
    const svg = element("svg", box, parent, SVG);
    const { line = {}, marker = {}, mode = "lines" } = trace;
    if (mode.includes("lines")) {
      element("path", {
        d: "M-14,0H14", stroke: line.color, "stroke-width": Math.min(line.width, 2.5), fill: "none",
        "stroke-dasharray": DASHES[line.dash] || "none", "stroke-opacity": trace.opacity || 1,
      }, svg, SVG);
    }
    if (mode.includes("markers")) {
      const several = Array.isArray(marker.color);
      const symbol = several ? "circle-open" : marker.symbol;
      const colour = several ? "#8a8a8a" : marker.color;
      const shape = SYMBOLS[symbol.replace(/-open|-dot/g, "")] || SYMBOLS.arrow;
      const open = symbol.includes("-open");
      const outline = marker.line && marker.line.color;
      element("path", {
        d: shape, fill: open ? "none" : colour, stroke: open ? colour : outline || "none",
        "stroke-width": 1.5, transform: "scale(0.85)",
      }, svg, SVG);
      if (symbol.includes("-dot")) element("circle", { r: 1.3, fill: colour }, svg, SVG);
    }
  };

  const legend = (chart, title, data) => {
    const list = element("div", { class: "legend", role: "group", "aria-label": `Lines of: ${title}` });
    const shown = data.filter((trace) => trace.showlegend !== false && trace.name);
    shown.sort((a, b) => (a.legendrank ?? 1000) - (b.legendrank ?? 1000));
    let set = list; // keeps a heading and its lines together
    for (const trace of shown) {
      const group = trace.legendgrouptitle && trace.legendgrouptitle.text;
      if (group || (trace.legendrank ?? 1000) > 1000) set = element("span", { class: "set" }, list);
      if (group) element("span", { class: "group" }, set).textContent = plain(group);
      const button = element("button", { type: "button", "aria-pressed": "true" }, set);
      swatch(trace, button);
      button.append(plain(trace.name));
      const same = (other) => trace.legendgroup && other.legendgroup === trace.legendgroup;
      const indices = data.flatMap((other, i) => (other === trace || same(other) ? [i] : []));
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        Plotly.restyle(chart, { visible: on ? true : "legendonly" }, indices);
      });
    }
    if (shown.length) chart.after(list);
  };

  const logarithmic = (chart, layout, heading) => {
    const linear = layout.yaxis.range.slice();
    const button = element("button", { type: "button", class: "switch", "aria-pressed": "false" }, heading);
    button.textContent = "logarithmic loss";
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      const axis = on ? ["log", layout.meta.log.slice()] : ["linear", linear.slice()];
      Plotly.relayout(chart, { "yaxis.type": axis[0], "yaxis.range": axis[1] });
    });
  };

  // A saved picture has a white background and plotly's own legend.
  const saving = (chart, title) => ({
    name: "save",
    title: "Save as SVG",
    icon: Plotly.Icons.camera,
    click: ({ data, layout }) => {
      const size = { width: 960, height: chart.clientHeight };
      const filename = title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
      const picture = { data, layout: { ...layout, ...size, showlegend: true } };
      return Plotly.downloadImage(picture, { format: "svg", filename, ...size });
    },
  });

  // Two panels stand side by side, or on narrow screens one above the other. The height is set on
  // the element: with a height of its own, a figure no longer follows the width of the page.
  const arrange = (chart, layout, height) => {
    const DOMAINS = ["xaxis", "xaxis2", "yaxis", "yaxis2"].map((axis) => `${axis}.domain`);
    const FORMS = {
      wide: [[0, 0.45], [0.57, 1], [0, 1], [0, 1]],
      narrow: [[0, 1], [0, 1], [0.58, 1], [0, 0.42]],
    };
    let form = "wide";
    const follow = async () => {
      const now = layout.yaxis2 && chart.clientWidth < NARROW ? "narrow" : "wide";
      if (now === form) return;
      form = now;
      chart.style.height = `${(form === "narrow" ? 1.7 : 1) * height}px`;
      await Plotly.relayout(chart, Object.fromEntries(DOMAINS.map((key, i) => [key, FORMS[form][i]])));
      Plotly.Plots.resize(chart);
    };
    new ResizeObserver(follow).observe(chart);
    return follow();
  };

  const draw = async (chart) => {
    const { data, layout } = JSON.parse(document.getElementById(`${chart.id}-figure`).textContent);
    const heading = chart.parentElement.querySelector(".heading");
    const height = layout.height;
    delete layout.height;
    chart.style.height = `${height}px`;
    layout.showlegend = false;
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls
    layout.modebar = { bgcolor: "rgba(0,0,0,0)" };
    const title = heading.textContent.trim();
    const buttons = [[saving(chart, title), "zoom2d", "pan2d", "resetScale2d"]];
    const options = { responsive: true, displaylogo: false, modeBarButtons: buttons };
    await Plotly.newPlot(chart, data, layout, options);
    legend(chart, title, data);
    if (layout.meta && layout.meta.log) logarithmic(chart, layout, heading);
    await arrange(chart, layout, height);
  };

  for (const chart of document.querySelectorAll(".chart")) {
    draw(chart).catch((error) => {
      chart.textContent = "This chart could not be drawn; the tables below contain its numbers.";
      console.error(error);
    });
  }

  // Printed pages show all tables.
  const closed = [];
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      closed.push(details);
    }
  });
  window.addEventListener("afterprint", () => {
    for (const details of closed.splice(0)) details.open = false;
  });
})();
