const printWidth = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--print-width"));
const report = JSON.parse(document.getElementById("plots").textContent);
const touch = matchMedia("(pointer: coarse)").matches || innerWidth < 700;
const panels = [];
for (const [id, figure] of Object.entries(report)) {
  const panel = document.getElementById(id);
  const layout = figure.layout;
  layout.dragmode = touch ? false : "zoom";
  if (innerWidth < 700) {
    if (layout.showlegend) layout.height += 17 * figure.data.filter(trace => trace.showlegend !== false).length;
    for (const trace of figure.data) if (trace.type === "heatmap") {
      trace.textfont.size = 8;
      layout.xaxis.tickfont.size = 8;
    }
  }
  Plotly.newPlot(panel, figure.data, layout, {responsive: true, displayModeBar: false, doubleClick: "reset"});
  panels.push(panel);
}
const fit = () => {
  for (const panel of panels) if (Math.abs(panel.clientWidth - panel._fullLayout.width) > 1) Plotly.Plots.resize(panel);
  for (const table of document.querySelectorAll(".scroll"))
    table.classList.toggle("wide", table.scrollWidth > table.clientWidth + 1);
};
const details = [...document.querySelectorAll("details")];
let closed = [];
const heights = panels.map(panel => panel.layout.height);
addEventListener("beforeprint", () => {  // paper has a fixed size, and folded details cannot be opened on it
  closed = details.filter(each => !each.open);
  for (const each of closed) each.open = true;
  panels.forEach((panel, k) => {
    const width = panel.closest(".cards") ? (printWidth - 44) / 3 : printWidth;
    const height = heights[k] * (panel._fullLayout.yaxis.type === "category" ? 1 : 0.82);
    Plotly.relayout(panel, {width, height, autosize: false});
  });
});
addEventListener("afterprint", () => {
  for (const each of closed) each.open = false;
  panels.forEach((panel, k) => Plotly.relayout(panel, {width: null, height: heights[k], autosize: true}));
});
new ResizeObserver(() => requestAnimationFrame(fit)).observe(document.body);
for (const chip of document.querySelectorAll(".chips button")) {
  chip.addEventListener("click", () => {
    const shown = chip.getAttribute("aria-pressed") !== "true";
    for (const same of document.querySelectorAll(".chips button"))
      if (same.textContent === chip.textContent) same.setAttribute("aria-pressed", shown);
    for (const panel of panels) {
      const lines = panel.data.map((line, k) => line.meta === chip.textContent ? k : -1).filter(k => k >= 0);
      if (lines.length) Plotly.restyle(panel, {visible: shown}, lines);
    }
  });
}
