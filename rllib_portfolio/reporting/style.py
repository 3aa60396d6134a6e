"""Style sheet and script of the page. Nothing is loaded from anywhere."""

from __future__ import annotations

from rllib_portfolio.reporting.equity_curve import INK, POLICY_COLOUR
from rllib_portfolio.reporting.plot_style import FONT, GRID, SOFT_INK

PRINT_WIDTH = 950
"""Pixels between the margins of a landscape page, A4 or Letter."""

STYLE = f"""
:root {{ --ink: {INK}; --soft: {SOFT_INK}; --line: {GRID}; --strong: {POLICY_COLOUR}; }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }}
body {{ margin: 0; background: #f6f7f8; color: var(--ink); font: 15px/1.55 {FONT}; }}
main, header, footer {{ max-width: 1680px; margin: 0 auto; padding: 0 20px; }}
header {{ padding-top: 20px; }}
h1 {{ font-size: 27px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }}
h2 {{ font-size: 19px; line-height: 1.3; margin: 0 0 6px; }}
h3 {{ font-size: 14px; margin: 22px 0 6px; }}
p {{ margin: 0 0 10px; max-width: 100ch; }}
.facts {{ font-size: 13px; color: var(--soft); max-width: none; margin: 0 0 8px; }}
.facts span {{ margin-right: 18px; }}
.facts b {{ font-weight: 600; }}
header p {{ margin-bottom: 6px; max-width: none; }}
.soft {{ color: var(--soft); }}
.small {{ font-size: 13px; }}
section {{ background: white; border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px; margin: 16px 0; }}
nav {{ margin: 0; display: flex; gap: 6px 16px; flex-wrap: wrap; font-size: 13px; }}
nav a {{ color: var(--soft); text-decoration: none; }}
nav a:hover {{ color: var(--strong); text-decoration: underline; }}
.verdict {{ border-left: 5px solid var(--soft); padding: 0 0 0 14px; margin: 12px 0 0; }}
.verdict.beats {{ border-left-color: #2b7a5b; }}
.verdict.loses {{ border-left-color: #b5542b; }}
.verdict p {{ margin: 0; max-width: 110ch; }}
.badge {{ display: inline-block; font-size: 12px; font-weight: 650; letter-spacing: .03em; padding: 2px 9px;
  border-radius: 99px; color: white; background: var(--soft); }}
.badge.beats {{ background: #2b7a5b; }}
.badge.loses {{ background: #b5542b; }}
.tiles {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 10px; margin: 14px 0 4px; }}
.tile {{ background: white; border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px; }}
.tile b {{ display: block; font-size: 21px; font-weight: 620; color: var(--strong);
  font-variant-numeric: tabular-nums; }}
.tile span {{ display: block; font-size: 12px; color: var(--soft); line-height: 1.35; }}
.clock {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: 26px; margin: 12px 0 6px; padding: 0;
  list-style: none; }}
.clock li {{ position: relative; border: 1px solid var(--line); border-top: 3px solid var(--strong); border-radius: 6px;
  padding: 10px 12px; font-size: 13px; line-height: 1.45; }}
.clock li b {{ display: block; font-size: 14px; }}
.clock li + li::before {{ content: "→"; position: absolute; left: -21px; top: 50%; transform: translateY(-50%);
  color: var(--soft); font-size: 17px; }}
ul.notes {{ margin: 0; padding-left: 18px; }}
ul.notes li {{ margin: 0 0 6px; max-width: 108ch; }}
.scroll {{ overflow-x: auto; margin: 6px -24px 10px; padding: 0 24px; }}
.scroll.wide {{ box-shadow: inset -16px 0 14px -14px rgba(0,0,0,.28); }}
.scroll.wide::before {{ content: "Scroll sideways for more columns →"; display: block; width: max-content;
  position: sticky; left: 0; font-size: 12px; color: var(--strong); }}
table {{ border-collapse: separate; border-spacing: 0; font-size: 13px; font-variant-numeric: tabular-nums;
  min-width: 100%; }}
th, td {{ padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }}
th {{ font-weight: 600; color: var(--soft); vertical-align: bottom; }}
thead th {{ white-space: normal; line-height: 1.25; min-width: 62px; }}
tbody th, thead th:first-child {{ text-align: left; position: sticky; left: 0; background: white; color: var(--ink);
  font-weight: 500; white-space: nowrap; }}
thead th:first-child {{ color: var(--soft); }}
tr.subject th, tr.subject td {{ font-weight: 650; background: #f1f5fb; }}
tr.subject th {{ color: var(--strong); }}
tr.benchmark td, tr.benchmark th {{ border-bottom-color: #c9ced5; }}
td[title] {{ cursor: help; color: var(--soft); }}
details {{ margin: 4px 0 8px; font-size: 13px; }}
summary {{ cursor: pointer; color: var(--soft); }}
.chips {{ position: sticky; top: 0; z-index: 5; display: flex; flex-wrap: wrap; gap: 6px; padding: 8px 0;
  background: rgba(255,255,255,.94); }}
.chips button {{ font: inherit; font-size: 12px; line-height: 1.2; padding: 4px 10px 4px 8px; border-radius: 99px;
  border: 1px solid var(--line); background: white; color: var(--soft); cursor: pointer; }}
.chips button::before {{ content: ""; display: inline-block; width: 9px; height: 9px; border-radius: 9px;
  margin-right: 6px; background: var(--line); }}
.chips button[aria-pressed=true] {{ color: var(--ink); border-color: #b9c0c9; }}
.chips button[aria-pressed=true]::before {{ background: var(--chip); }}
.panel {{ width: 100%; margin: 2px 0 6px; overflow: hidden; }}
.cards {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 18px 22px; margin: 8px 0; }}
.cards h3 {{ margin: 0 0 2px; }}
.cards .small {{ margin: 0; }}
code {{ font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; background: #f1f3f5; padding: 2px 5px;
  border-radius: 4px; overflow-wrap: anywhere; }}
footer {{ padding-bottom: 40px; font-size: 13px; color: var(--soft); }}
@media (max-width: 700px) {{
  main, header, footer {{ padding-left: 12px; padding-right: 12px; }}
  header {{ padding-top: 22px; }}
  h1 {{ font-size: 23px; }}
  section {{ padding: 16px 14px; margin: 12px 0; }}
  .scroll {{ margin: 6px -14px 10px; padding: 0 0 0 14px; }}
  .clock {{ grid-template-columns: 1fr; gap: 24px; }}
  .clock li + li::before {{ content: "↓"; left: 50%; top: -23px; transform: translateX(-50%); }}
  .tiles {{ grid-template-columns: 1fr 1fr; }}
  .facts {{ font-size: 12px; line-height: 1.4; }}
  .facts span {{ display: block; margin: 0; }}
  tbody th {{ max-width: 128px; white-space: normal; line-height: 1.2; }}
  .chips {{ flex-wrap: nowrap; overflow-x: auto; }}
  .chips button {{ flex: none; padding: 7px 12px 7px 10px; }}
  nav {{ flex-wrap: nowrap; overflow-x: auto; white-space: nowrap; padding-bottom: 4px; }}
}}
@page {{ size: A4 landscape; margin: 11mm; }}
@media print {{
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
  body {{ background: white; font-size: 12px; width: {PRINT_WIDTH}px; margin: 0 auto; }}
  main, header, footer {{ padding: 0; }}
  section {{ border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: 10px 0 0; margin: 0 0 14px;
    break-inside: avoid; }}
  section:first-child {{ border-top: 0; padding-top: 0; }}
  h2, h3, summary {{ break-after: avoid; }}
  h3 {{ margin-top: 12px; }}
  p, ul.notes li {{ max-width: none; margin-bottom: 3px; }}
  .block, .panel, .scroll, tr, li, .tiles, .verdict, .clock, .cards > div {{ break-inside: avoid; }}
  .panel {{ min-height: 0 !important; }}
  details ul.notes {{ columns: 2; font-size: 9px; }}
  .clock {{ grid-template-columns: repeat(4, 1fr); }}
  .tiles {{ grid-template-columns: repeat(5, 1fr); }}
  .cards {{ grid-template-columns: repeat(3, 1fr); }}
  nav, .chips button[aria-pressed=false], .scroll.wide::before {{ display: none; }}
  .chips {{ position: static; flex-wrap: wrap; }}
  .scroll, .scroll.wide {{ overflow: visible; margin: 4px 0 8px; padding: 0; box-shadow: none; }}
  table {{ width: 100%; font-size: 8.5px; }}
  thead {{ display: table-header-group; }}
  th, td {{ padding: 1px 4px; }}
  thead th {{ min-width: 0; }}
  tbody th, thead th:first-child {{ position: static; max-width: none; }}
}}
"""

SCRIPT = (
    f"const printWidth = {PRINT_WIDTH};"
    + """
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
addEventListener("beforeprint", () => {  // a page of paper has one size and cannot be clicked
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
"""
)
