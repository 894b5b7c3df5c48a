/**
 * A chart of the last ten minutes.
 *
 * Owns: Chart. Elsewhere: drawing it (../vendor/uplot.js), the samples (samples.js). Fails: never.
 *
 * @module admin/chart
 */

import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "../ui.js";

const HEIGHT = 170;
/** Of the lines, in their order; each is told from the background, and from the others, in light and dark. */
const COLOURS = ["#3b7dd8", "#d9822b", "#2a9d6f"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name) || "gray";

function options(labels, width) {
  const axis = { stroke: () => colour("--chart-ink"), grid: { stroke: () => colour("--chart-line"), width: 1 }, ticks: { show: false } };
  const series = labels.map((label, at) => ({ label, stroke: COLOURS[at], width: 2, points: { show: false }, spanGaps: false }));
  return {
    width,
    height: HEIGHT,
    cursor: { y: false },
    legend: { live: true },
    scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [axis, { ...axis, size: 56 }],
    series: [{ value: "{HH}:{mm}:{ss}" }, ...series],
  };
}

/**
 * @param {{title: string, labels: string[], data: (number|null)[][]}} properties data: the times, in seconds since the
 *   epoch, and for each label its values; null = not known
 */
export function Chart({ title, labels, data }) {
  const element = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const { current } = element;
    const made = new uPlot(options(labels, current.clientWidth), data, current);
    plot.current = made;
    const observer = new ResizeObserver(() => current.isConnected && made.setSize({ width: current.clientWidth, height: HEIGHT }));
    observer.observe(current);
    return () => {
      observer.disconnect();
      made.destroy();
    };
  }, [labels.join()]);
  useEffect(() => plot.current?.setData(data), [data]);
  const latest = labels.map((label, at) => `${label}: ${data[at + 1].at(-1) ?? "–"}`).join(", ");
  return html`
    <figure class="chart">
      <figcaption>${title} <span class="latest">${latest}</span></figcaption>
      <div ref=${element} aria-hidden="true"></div>
    </figure>`;
}
