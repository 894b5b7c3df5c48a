/**
 * How the server is, at this moment and in the last ten minutes.
 *
 * Owns: Dashboard. Elsewhere: the samples (samples.js), charts (chart.js). Fails: never.
 *
 * @module admin/dashboard
 */

import { t } from "../texts.js";
import { html, useModel } from "../ui.js";
import { Chart } from "./chart.js";
import { bytes, duration, Table } from "./table.js";

const CHARTS = [
  ["live.messages", ["in", "out"]],
  ["live.delay", ["delivery", "commit"]],
  ["live.sessions", ["sessions", "connections"]],
  ["live.queues", ["in_flight", "store_queue", "webhooks"]],
  ["live.cpu", ["cpu"]],
];

function Figures({ status }) {
  const { totals } = status;
  const known = [
    ["live.state", status.state],
    ["live.version", status.version],
    ["live.up", duration(status.uptime_s)],
    ["live.failed", totals.logins_failed],
    ["live.refused", totals.logins_refused],
    ["live.penalties", totals.penalties_begun],
    ["live.store", bytes(Math.max(0, ...status.workers.map((one) => one.store_bytes)))],
  ];
  return html`
    <dl class="figures">
      ${known.map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd>${value}</dd></div>`)}
    </dl>`;
}

function Problems({ reasons }) {
  if (reasons.length === 0) return html`<p class="well">${t("live.well")}</p>`;
  return html`
    <section class="problems" aria-label=${t("live.problems")}>
      <h2>${t("live.problems")}</h2>
      <ul>${reasons.map((one) => html`<li key=${one.text ?? one.code}>${one.text ?? one.code}</li>`)}</ul>
    </section>`;
}

function Workers({ workers }) {
  const columns = [
    ["live.slot", (one) => one.slot],
    ["live.state", (one) => one.state],
    ["live.pid", (one) => one.pid],
    ["live.up", (one) => duration(one.uptime_s)],
    ["live.sessions", (one) => one.sessions],
    ["live.in", (one) => `${Math.round(one.in_per_s)}/s`],
    ["live.out", (one) => `${Math.round(one.out_per_s)}/s`],
    ["live.memory", (one) => bytes(one.rss_bytes)],
    ["live.cpu", (one) => Math.round(one.cpu_percent)],
  ];
  return html`<${Table} title=${t("live.workers")} columns=${columns} rows=${workers} keyOf=${(one) => one.slot} />`;
}

/** @param {{samples: import("./samples.js").Samples}} properties */
export function Dashboard({ samples }) {
  useModel(samples);
  const { latest } = samples;
  if (latest === null) return html`<p role="status">${t(samples.away ? "live.away" : "app.connecting")}</p>`;
  const { status } = latest;
  return html`
    <div class="dashboard">
      ${samples.away && html`<p role="alert" class="failure">${t("live.away")}</p>`}
      <${Problems} reasons=${status.reasons} />
      <${Figures} status=${status} />
      <div class="charts">
        ${CHARTS.map(([title, names]) => html`
          <${Chart} key=${title} title=${t(title)} labels=${names.map((name) => t(`live.${name}`))} data=${samples.series(...names)} />`)}
      </div>
      <${Workers} workers=${status.workers} />
    </div>`;
}
