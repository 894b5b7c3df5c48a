/**
 * How the server was in the last ten minutes.
 *
 * Owns: Samples: asking once a second while the page is visible, and what follows from two samples; p99().
 * Elsewhere: a sample (chatd/http/admin/orders.py), charts (chart.js). Fails: never; without an answer there is a gap.
 *
 * @module admin/samples
 */

import { Model } from "../ui.js";
import { Code, poll } from "./calls.js";

const EVERY_MS = 1000;
/** How long samples are kept, and how long there may be none before the lines of a chart have a gap, s. */
const KEPT_S = 600;
const GAP_S = 3.5;

/** The duration, in ms, that 99 % of those between two samples did not exceed, as exactly as the buckets tell; null =
 * there were none. @param {{bounds_us: number[], counts: number[]}|undefined} before @param {typeof before} now */
export function p99(before, now) {
  if (before === undefined || now === undefined) return null;
  const counts = now.counts.map((count, at) => count - (before.counts[at] ?? 0));
  const all = counts.at(-1);
  if (all <= 0) return null;
  const at = counts.findIndex((count) => count >= all * 0.99);
  const bounds = [0, ...now.bounds_us, now.bounds_us.at(-1)];
  const below = at > 0 ? counts[at - 1] : 0;
  const share = counts[at] > below ? (all * 0.99 - below) / (counts[at] - below) : 1;
  return Math.round((bounds[at] + share * (bounds[at + 1] - bounds[at])) / 100) / 10;
}

const sum = (workers, field) => workers.reduce((total, one) => total + (one[field] ?? 0), 0);

/** latest: the sample, null = none yet. away: the server does not answer. */
export class Samples extends Model {
  latest = null;
  away = false;
  #kept = [];
  #before = null;
  #timer = 0;
  #stopped = false;

  start() {
    this.#stopped = false;
    document.addEventListener("visibilitychange", this.#seen);
    this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #seen = () => {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#ask();
  };

  async #ask() {
    try {
      const sample = await poll("live");
      this.#take(sample);
      this.away = false;
    } catch (error) {
      if (error.code === Code.NOT_LOGGED_IN) return;
      this.away = true;
    }
    if (this.#stopped) return;
    this.changed();
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), EVERY_MS);
  }

  #take(sample) {
    const at = sample.at_ms / 1000;
    const last = this.#kept.at(-1)?.at ?? at;
    if (last - at > GAP_S) this.#kept = []; // the server's clock was set back
    else if (at <= last && this.#kept.length > 0) return; // two answers have passed each other
    if (at - last > GAP_S) this.#kept.push({ at: last + 0.1 });
    this.#kept.push({ at, ...figures(this.#before, sample.status) });
    this.latest = sample;
    this.#before = sample.status;
    this.#kept = this.#kept.filter((one) => one.at > at - KEPT_S);
  }

  /** For a chart. @param {string[]} names @returns {(number|null)[][]} the times, then the values of each name */
  series(...names) {
    return [this.#kept.map((one) => one.at), ...names.map((name) => this.#kept.map((one) => one[name] ?? null))];
  }
}

function figures(before, status) {
  const { workers } = status;
  const durations = before?.pid === status.pid ? before.durations : undefined;
  return {
    in: Math.round(sum(workers, "in_per_s")),
    out: Math.round(sum(workers, "out_per_s")),
    sessions: sum(workers, "sessions"),
    connections: sum(workers, "connections"),
    cpu: Math.round(sum(workers, "cpu_percent")),
    in_flight: sum(workers, "in_flight"),
    store_queue: sum(workers, "store_queue"),
    webhooks: sum(workers, "webhook_waiting"),
    delivery: p99(durations?.delivery_delay, status.durations?.delivery_delay),
    commit: p99(durations?.commit, status.durations?.commit),
  };
}
