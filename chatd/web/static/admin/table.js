/**
 * Lists of the operator's page, and figures as people read them.
 *
 * Owns: Table, loading(), bytes(), duration(), moment(). Elsewhere: what is listed. Fails: never.
 *
 * @module admin/table
 */

import { language, t } from "../texts.js";
import { html } from "../ui.js";

/**
 * @param {{title: string, columns: [string, (row: any) => any][], rows: any[], keyOf: (row: any) => any, current?: any}} properties
 *   columns: each with the key of its heading's text ("" = none), and what it shows; current: the key of the row that is chosen
 */
export function Table({ title, columns, rows, keyOf, current }) {
  return html`
    <div class="table" role="region" tabindex="0" aria-label=${title}>
      <table>
        <caption>${title}</caption>
        <thead><tr>${columns.map(([name]) => html`<th key=${name} scope="col">${name && t(name)}</th>`)}</tr></thead>
        <tbody>
          ${rows.map((row) => html`
            <tr key=${keyOf(row)} aria-current=${current !== undefined && keyOf(row) === current ? "true" : undefined}>
              ${columns.map(([name, shown]) => html`<td key=${name} dir="auto">${shown(row)}</td>`)}
            </tr>`)}
        </tbody>
      </table>
      ${rows.length === 0 && html`<p class="empty">${t("admin.none")}</p>`}
    </div>`;
}

/** In place of something that is not loaded yet. @param {string} failure why it cannot be; "" = it may come */
export const loading = (failure) => html`<p role="status">${failure || t("app.connecting")}</p>`;

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** @param {number} count */
export function bytes(count) {
  const at = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, count)) / 3));
  return `${(count / 1000 ** at).toLocaleString(language(), { maximumFractionDigits: 1 })} ${UNITS[at]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 90) return `${whole} s`;
  if (whole < 5400) return `${Math.floor(whole / 60)} min`;
  if (whole < 172_800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86_400)} d`;
}

/** @param {number} ms since the epoch; 0 = never */
export function moment(ms) {
  if (!ms) return t("admin.never");
  return new Date(ms).toLocaleString(language(), { dateStyle: "short", timeStyle: "medium" });
}
