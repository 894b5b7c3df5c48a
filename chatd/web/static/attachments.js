/**
 * Files as they are drawn: in messages, before they are sent, and a picture by itself.
 *
 * Owns: Attachments, Tray, Lightbox. Elsewhere: where they are loaded from (files.js).
 * Fails: a file that cannot be loaded says so in its place, and can be asked for again.
 *
 * The box of a picture has its size before the picture is there, so that nothing moves when it comes.
 *
 * @module attachments
 */

import { Refused } from "./chatd.js";
import { Action, Dialog } from "./dialog.js";
import { isPicture, sizeOf } from "./files.js";
import { t } from "./texts.js";
import { html, useEffect, useRef, useState } from "./ui.js";

/** The longest side of a picture in a message, CSS pixels, if it is alone, or one of several. */
const ALONE = 320;
const ONE_OF_MANY = 160;
/** Pictures so near to what is shown are loaded. */
const NEAR = "400px";

/** @param {{width: number, height: number}} picture @param {number} longest */
function boxOf({ width, height }, longest) {
  const scale = Math.min(1, longest / Math.max(width, height));
  return { width: `${Math.max(24, Math.round(width * scale))}px`, aspectRatio: `${width} / ${height}` };
}

/** The address of a file of a message; "" until it is wanted and known. why: it cannot be had.
 * @param {any} file @param {{conversation: any, seq: number}} place @param {boolean} wanted */
function useSource(file, { conversation, seq }, wanted) {
  const [state, setState] = useState({ url: file.url ?? "", why: "", tries: 0 });
  const message = { conversation: conversation.key, seq };
  const load = async (tries) => {
    try {
      setState({ url: await conversation.chat.links.url(message, file.id), why: "", tries });
    } catch (error) {
      setState({ url: "", why: t(error instanceof Refused ? "files.gone" : "files.unreachable"), tries });
    }
  };
  useEffect(() => {
    if (wanted && seq > 0) load(0);
  }, [wanted, file.id, seq]);
  useEffect(() => {
    if (state.why === "") return undefined;
    return conversation.chat.client.on("state", (now) => now.state === "live" && load(0));
  }, [state.why]);
  /** The address may have expired. */
  const failed = () => {
    conversation.chat.links.forget(message);
    if (state.tries < 1) load(state.tries + 1);
    else setState({ url: "", why: t("files.unreachable"), tries: 0 });
  };
  return { ...state, failed, again: () => load(0) };
}

function Picture({ file, place, longest, onOpen }) {
  const box = useRef(null);
  const [wanted, want] = useState(false);
  useEffect(() => {
    const watch = new IntersectionObserver(([one]) => one.isIntersecting && want(true), { rootMargin: NEAR });
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const { url, why, failed, again } = useSource(file, place, wanted);
  return html`
    <button type="button" class="picture" ref=${box} style=${boxOf(file, longest)} aria-label=${why ? `${file.name}: ${why}` : t("files.open", { name: file.name })}
      onClick=${() => (why ? again() : onOpen?.({ ...place, file: file.id }))}>
      ${url && html`<img src=${url} alt=${file.name} decoding="async" onError=${failed} />`}
      ${why && html`<span class="why">${why}</span>`}
    </button>`;
}

/** Let the browser save it. @param {any} file @param {{conversation: any, seq: number}} place */
async function save(file, { conversation, seq }) {
  let href;
  try {
    href = await conversation.chat.links.url({ conversation: conversation.key, seq }, file.id);
  } catch (error) {
    throw error instanceof Refused ? new Error(t("files.gone")) : error;
  }
  Object.assign(document.createElement("a"), { href, download: file.name, rel: "noreferrer" }).click();
}

function Card({ file, place }) {
  return html`
    <div class="card">
      <span class="about"><bdi class="file">${file.name}</bdi> <span class="size">${sizeOf(file.size)}</span></span>
      ${place.seq > 0 && html`<${Action} plain label=${t("files.download_name", { name: file.name })} work=${() => save(file, place)}>${t("files.download")}<//>`}
    </div>`;
}

/** The files of a message. @param {{entry: any, conversation: any, onOpen: (at: any) => void}} properties */
export function Attachments({ entry, conversation, onOpen }) {
  const { files = [], seq } = entry;
  if (files.length === 0) return null;
  const place = { conversation, seq };
  const longest = files.filter(isPicture).length > 1 ? ONE_OF_MANY : ALONE;
  return html`
    <div class="files">
      ${files.map((file) => (isPicture(file)
        ? html`<${Picture} key=${file.id ?? file.key} file=${file} place=${place} longest=${longest} onOpen=${seq > 0 ? onOpen : null} />`
        : html`<${Card} key=${file.id ?? file.key} file=${file} place=${place} />`))}
    </div>
    ${seq === 0 && !entry.failed && html`<${Progress} entry=${entry} conversation=${conversation} />`}`;
}

/** How far the upload is. @param {{entry: any, conversation: any}} properties */
function Progress({ entry, conversation }) {
  const { files } = entry;
  if (files.every((one) => one.done)) return null;
  const all = files.reduce((sum, one) => sum + one.size, 0);
  const sent = files.reduce((sum, one) => sum + (one.sent ?? 0), 0);
  return html`
    <span class="progress">
      <progress max=${all} value=${sent} aria-label=${t("files.progress")}></progress>
      <span>${t("files.of", { sent: sizeOf(sent), size: sizeOf(all) })}</span>
      <button type="button" class="plain" onClick=${() => conversation.discard(entry)}>${t("app.cancel")}</button>
    </span>`;
}

/** What will be sent with the next message. @param {{conversation: import("./conversation.js").Conversation}} properties */
export function Tray({ conversation }) {
  const { staged, told } = conversation;
  return html`
    ${told.length > 0 && html`<div class="told" role="alert">${told.map((one) => html`<p key=${one}>${one}</p>`)}</div>`}
    ${staged.length > 0 && html`
      <ul class="tray" aria-label=${t("files.chosen")}>
        ${staged.map((file) => html`
          <li key=${file.key}>
            ${file.url && html`<img src=${file.url} alt="" width="40" height="40" />`}
            <span class="about"><bdi class="file">${file.name}</bdi> <span class="size">${sizeOf(file.size)}</span></span>
            <button type="button" class="plain" aria-label=${t("files.remove", { name: file.name })} onClick=${() => conversation.unstage(file)}>✕</button>
          </li>`)}
      </ul>`}`;
}

/** One picture of a conversation, as large as the window; the arrows lead to the others that are loaded.
 * @param {{at: {conversation: any, seq: number, file: string}, onMove: (at: any) => void, onClose: () => void}} properties */
export function Lightbox({ at, onMove, onClose }) {
  const { conversation } = at;
  const all = conversation.messages.flatMap(({ seq, files = [] }) => files.filter(isPicture).map((file) => ({ conversation, seq, file })));
  const index = all.findIndex((one) => one.seq === at.seq && one.file.id === at.file);
  useEffect(() => {
    if (index < 0) onClose(); // recalled meanwhile
  }, [index]);
  if (index < 0) return null;
  const shown = all[index];
  const move = (by) => {
    const next = all[index + by];
    if (next) onMove({ ...next, file: next.file.id });
  };
  const onKeyDown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) move(getComputedStyle(event.currentTarget).direction === "rtl" ? -by : by);
  };
  return html`
    <${Dialog} title=${shown.file.name} onClose=${onClose} onKeyDown=${onKeyDown}>
      <div class="lightbox">
        <${Large} key=${shown.file.id} file=${shown.file} place=${shown} />
        <p class="controls">
          <button type="button" class="plain" disabled=${index === 0} onClick=${() => move(-1)}>${t("files.before")}</button>
          <${Action} plain work=${() => save(shown.file, shown)}>${t("files.download")}<//>
          <button type="button" class="plain" disabled=${index === all.length - 1} onClick=${() => move(1)}>${t("files.after")}</button>
        </p>
      </div>
    <//>`;
}

function Large({ file, place }) {
  const { url, why, failed } = useSource(file, place, true);
  return html`
    <div class="large">
      ${url && html`<img src=${url} alt=${file.name} width=${file.width} height=${file.height} onError=${failed} />`}
      ${why && html`<p role="alert">${why}</p>`}
    </div>`;
}
