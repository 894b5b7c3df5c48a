/**
 * The server itself: who is connected, penalties and bans, the log, the configuration, and orders.
 *
 * Owns: Clients, Bans, Log, Config, Server. Elsewhere: lists (table.js), what is asked (calls.js).
 * Fails: never; a refusal is shown beside its button.
 *
 * @module admin/server
 */

import { Action, Line, Select, useLoaded } from "../dialog.js";
import { reasonOf } from "../refusals.js";
import { t } from "../texts.js";
import { html, useEffect, useRef, useState } from "../ui.js";
import { begin, get, look, order, poll, post, session } from "./calls.js";
import { Form } from "./form.js";
import { duration, loading, moment, Table } from "./table.js";

const LEVELS = ["DEBUG", "NORMAL", "WARNING", "ERROR"];
const FILES = ["normal.log", "error.log"];
/** Between two looks at the end of the log, ms. */
const FOLLOW_MS = 1500;
const KEPT_LINES = 1000;

export function Clients() {
  const [query, setQuery] = useState({ user: "", order: "since" });
  const [found, again, failure] = useLoaded(() => look("clients", { query, everywhere: true }), [query]);
  const orders = ["since", "name", "address", "idle", "in_flight", "waiting"].map((one) => [one, t(`clients.${one}`)]);
  const columns = [
    ["login.name", (one) => one.name],
    ["users.wire", (one) => `${one.wire} ${one.carrier}`],
    ["users.address", (one) => one.address],
    ["users.since", (one) => moment(one.since_ms)],
    ["clients.idle", (one) => duration(one.idle_s)],
    ["clients.in_flight", (one) => one.in_flight],
    ["users.host", (one) => `${one.host}/${one.worker}`],
    ["", (one) => session.mayWrite && html`
      <${Action} plain work=${async () => { await order("kick", { user_id: one.user_id, wire: one.wire }); await again(); }}
        confirm=${t("clients.kick.sure", { name: one.name })}>${t("users.kick")}<//>`],
  ];
  return html`
    <div class="bar">
      <label>${t("clients.user")} <input type="search" value=${query.user} onChange=${(event) => setQuery({ ...query, user: event.currentTarget.value.trim() })} /></label>
      <${Select} label=${t("clients.order")} value=${query.order} options=${orders} onChange=${(one) => setQuery({ ...query, order: one })} />
      <${Action} plain work=${again}>${t("admin.again")}<//>
    </div>
    ${found === null ? loading(failure) : html`
      ${failure && html`<p role="alert" class="failure">${failure}</p>`}
      ${found.matching > found.clients.length && html`<p>${t("clients.first", { count: found.clients.length, all: found.matching })}</p>`}
      <${Table} title=${t("nav.clients")} columns=${columns} rows=${found.clients} keyOf=${(one) => `${one.user_id} ${one.wire} ${one.worker} ${one.host}`} />`}`;
}

function Penalties() {
  const [found, again, failure] = useLoaded(() => look("penalties"), []);
  if (found === null) return loading(failure);
  const clears = async (given) => {
    await order("clear-penalties", given);
    await again();
  };
  const columns = [
    ["bans.subject", (one) => one.subject],
    ["bans.failures", (one) => Math.round(one.offences)],
    ["users.since", (one) => moment(one.since_ms)],
    ["bans.left", (one) => (one.remaining_s ? duration(one.remaining_s) : "–")],
    ["", (one) => session.mayWrite && html`<${Action} plain work=${() => clears({ subject: one.subject })}>${t("bans.forgive")}<//>`],
  ];
  return html`
    <${Table} title=${t("bans.penalties")} columns=${columns} rows=${found.penalties} keyOf=${(one) => `${one.kind} ${one.subject}`} />
    ${session.mayWrite && found.penalties.length > 0 && html`
      <${Action} plain work=${() => clears({ everything: true })} confirm=${t("bans.all.sure")}>${t("bans.all")}<//>`}`;
}

export function Bans() {
  const [found, again, failure] = useLoaded(() => get("bans"), []);
  if (found === null) return loading(failure);
  const bans = async (given) => {
    const hours = Number(given.get("hours"));
    await post("bans", { network: given.get("network").trim(), for_s: hours * 3600, reason: given.get("reason"), force: given.get("force") === "on" });
    await again();
  };
  const lifts = async (network) => {
    await post("bans/remove", { network });
    await again();
  };
  const columns = [
    ["bans.network", (one) => one.network],
    ["users.since", (one) => moment(one.at_ms)],
    ["keys.until", (one) => (one.until_ms ? moment(one.until_ms) : "–")],
    ["keys.by", (one) => one.by],
    ["users.reason", (one) => one.reason],
    ["", (one) => session.mayWrite && html`<${Action} plain work=${() => lifts(one.network)}>${t("bans.lift")}<//>`],
  ];
  return html`
    <${Penalties} />
    <${Table} title=${t("bans.title")} columns=${columns} rows=${found.bans} keyOf=${(one) => one.network} />
    ${session.mayWrite && html`
      <${Form} submit=${t("bans.ban")} work=${bans}>
        <label>${t("bans.network")} <input name="network" required placeholder="203.0.113.0/24" /></label>
        <label>${t("bans.hours")} <input name="hours" type="number" min="0" value="24" /></label>
        <label>${t("users.reason")} <input name="reason" maxlength="200" /></label>
        <label class="check"><input name="force" type="checkbox" /> ${t("bans.force")}</label>
      <//>`}`;
}

/** A record without what has a column of its own. */
function rest({ time, level, event, pid, worker, ...fields }) {
  return Object.entries(fields).map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`).join(" ");
}

export function Log() {
  const [query, setQuery] = useState({ file: FILES[0], level: "", text: "", user: "" });
  const [lines, setLines] = useState([]);
  const [told, tell] = useState("");
  const after = useRef("");
  useEffect(() => {
    let timer = 0;
    let isOver = false;
    after.current = "";
    setLines([]);
    const reads = async () => {
      const asks = after.current === "" ? get : poll; // an open page keeps no session alive
      const tail = await asks("log", { ...query, after: after.current, lines: 200 });
      if (isOver) return;
      after.current = tail.after;
      tell(tail.skipped ? t("log.skipped") : "");
      if (tail.lines.length > 0) setLines((before) => [...before, ...tail.lines].slice(-KEPT_LINES));
    };
    const follow = async () => {
      try {
        if (!document.hidden) await reads();
      } catch (error) {
        tell(reasonOf(error));
        if (session.me === null) return;
      }
      if (!isOver) timer = setTimeout(follow, FOLLOW_MS);
    };
    follow();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [query]);
  const set = (name) => (event) => setQuery({ ...query, [name]: event.currentTarget.value.trim() });
  const levels = [["", t("log.all")], ...LEVELS.map((one) => [one, one])];
  return html`
    <div class="bar">
      <${Select} label=${t("log.file")} value=${query.file} options=${FILES.map((one) => [one, one])} onChange=${(file) => setQuery({ ...query, file })} />
      <${Select} label=${t("log.level")} value=${query.level} options=${levels} onChange=${(level) => setQuery({ ...query, level })} />
      <label>${t("log.text")} <input type="search" onChange=${set("text")} /></label>
      <label>${t("log.user")} <input type="search" onChange=${set("user")} /></label>
    </div>
    <p role="status">${told}</p>
    <div class="table log" role="log" tabindex="0" aria-label=${t("nav.log")}>
      <table><tbody>
        ${lines.toReversed().map((one, at) => html`
          <tr key=${lines.length - at}><td>${one.time ?? ""}</td><td class=${one.level ?? ""}>${one.level ?? ""}</td>
            <td>${one.worker ?? ""}</td><td class="wide" dir="auto"><strong>${one.event}</strong> ${rest(one)}</td></tr>`)}
      </tbody></table>
    </div>`;
}

const written = (value) => (value === null || value === undefined ? "–" : JSON.stringify(value));

export function Config() {
  const [found, again, failure] = useLoaded(() => get("config"), []);
  const [like, setLike] = useState("");
  const [told, tell] = useState("");
  if (found === null) return loading(failure);
  const reloads = async () => {
    const { applied, next_worker, needs_restart } = await order("reload");
    tell(t("config.reloaded", { applied: applied.length, later: next_worker.length + needs_restart.length }));
    await again();
  };
  const waiting = [
    ["config.key", (one) => one.key],
    ["config.running", (one) => written(one.running)],
    ["config.file", (one) => written(one.file)],
    ["config.waits", (one) => one.waits_for],
    ["config.command", (one) => one.command],
  ];
  const columns = [
    ["config.key", (one) => html`<span title=${`${one.text} (${one.allowed})`}>${one.key}</span>`],
    ["config.value", (one) => html`<span class=${written(one.value) === written(one.default) ? "" : "changed"}>${written(one.value)}</span>`],
    ["config.default", (one) => written(one.default)],
    ["config.effect", (one) => t(`config.effect.${one.effect}`)],
  ];
  const shown = found.options.filter((one) => one.key.includes(like.toLowerCase()) || one.text.toLowerCase().includes(like.toLowerCase()));
  return html`
    ${found.problem
      ? html`<p role="alert" class="failure">${found.problem}</p>`
      : html`<p>${found.file}, ${t("config.generation", { number: found.generation })}</p>`}
    <${Table} title=${t("config.pending")} columns=${waiting} rows=${found.pending} keyOf=${(one) => one.key} />
    ${session.mayWrite && html`<${Action} work=${reloads}>${t("server.reload")}<//>`}
    <p role="status">${told}</p>
    <div class="bar"><label>${t("config.find")} <input type="search" value=${like} onInput=${(event) => setLike(event.currentTarget.value)} /></label></div>
    <${Table} title=${t("nav.config")} columns=${columns} rows=${shown} keyOf=${(one) => one.key} />`;
}

export function Server() {
  const [levels, again] = useLoaded(() => look("log-levels"), []);
  const [traces, reload] = useLoaded(() => look("list-traces"), []);
  const [told, tell] = useState("");
  const done = (work, text = "admin.done") => async (...given) => {
    tell("");
    await work(...given);
    tell(t(text));
  };
  const dangerous = [
    ["restart-workers", {}, "server.restart"],
    ["upgrade", {}, "server.upgrade"],
    ["drain", {}, "server.drain"],
    ["stop", {}, "server.stop"],
  ];
  return html`
    <p role="status">${told}</p>
    ${!session.mayWrite && html`<p>${t("admin.read")}</p>`}
    ${session.mayWrite && html`
      <section class="card">
        <h2>${t("server.orders")}</h2>
        <div class="bar">
          <${Action} work=${done(() => order("reload"))}>${t("server.reload")}<//>
          <${Action} work=${done(() => order("reopen"))}>${t("server.reopen")}<//>
          <${Action} work=${done(() => order("undrain"))}>${t("server.undrain")}<//>
          <${Action} work=${done(() => order("scale", { step: 1 }))}>${t("server.more")}<//>
          <${Action} work=${done(() => order("scale", { step: -1 }))}>${t("server.fewer")}<//>
        </div>
        <${Line} label=${t("server.broadcast")} submit=${t("server.tell")} work=${done((text) => order("broadcast", { text }))} />
        <${Select} label=${t("server.level")} value=${levels?.master ?? ""} options=${LEVELS.map((one) => [one, one])}
          onChange=${async (level) => { await done(() => order("log-level", { level }))(); await again(); }} />
        <${Line} label=${t("server.trace")} submit=${t("server.trace.begin")}
          work=${async (user) => { await done(() => order("trace", { user, for_s: 600 }))(); await reload(); }} />
        <p dir="auto">${(traces?.traced ?? []).map((one) => `${one.name} (${duration(one.remaining_s)})`).join(", ")}</p>
      </section>
      <section class="card">
        <h2>${t("server.dangerous")}</h2>
        <div class="bar">
          ${dangerous.map(([cmd, given, text]) => html`
            <${Action} key=${cmd} plain work=${done(() => begin(cmd, given), "admin.begun")} confirm=${t("server.sure", { what: t(text) })}>${t(text)}<//>`)}
        </div>
      </section>`}`;
}
