/**
 * The conversation that is shown: its messages, and below them the field to write in.
 *
 * Owns: Thread and its parts; keeping the place in the list while messages are added at either end; taking dropped files.
 * Elsewhere: what the messages are (conversation.js), writing one (composer.js), files (attachments.js).
 * Fails: never; what cannot be loaded can be asked for again.
 *
 * Messages are drawn in blocks of BLOCK, which are drawn again only if one of theirs has changed, and the browser lays
 * out only blocks that are near (content-visibility), so that a long conversation costs little.
 *
 * @module thread
 */

import { Attachments, Lightbox } from "./attachments.js";
import { Composer, useExcess } from "./composer.js";
import { Action } from "./dialog.js";
import { filesOf, lineOf } from "./files.js";
import { GroupDetails } from "./groups.js";
import { presenceOf } from "./people.js";
import { reasonOf } from "./refusals.js";
import { cut, day, t, time } from "./texts.js";
import { html, useEffect, useLayoutEffect, useMemo, useModel, useRef, useState } from "./ui.js";

const BLOCK = 50;
/** So near to the end of the list, in pixels, counts as there. */
const NEAR = 80;
/** So near to its beginning, earlier messages are loaded. */
const AHEAD = 3000;

/** Of what is found, the newest are shown. */
const FOUND = 500;

const LINK = /\bhttps?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;

/** A text with its links. */
function Text({ text }) {
  const parts = [];
  let at = 0;
  for (const { 0: url, index } of text.matchAll(LINK)) {
    parts.push(text.slice(at, index), html`<a href=${url} target="_blank" rel="noopener noreferrer nofollow">${url}</a>`);
    at = index + url.length;
  }
  return html`<span class="text" dir="auto">${parts}${text.slice(at)}</span>`;
}

function stateOf(entry, conversation) {
  if (entry.failed) return t("state.failed", { why: entry.why });
  if (entry.seq === 0) return t("state.waiting");
  if (conversation.isGroup) return t("state.stored");
  if (entry.seq <= conversation.readByOther) return t("state.read");
  return t(entry.seq <= conversation.delivered ? "state.delivered" : "state.stored");
}

/** @param {{entry: import("./conversation.js").Entry, conversation: any, onReply: Function, onOpen: Function}} properties */
function Message({ entry, conversation, onReply, onOpen }) {
  const [edited, edit] = useState(null);
  const mine = entry.from === conversation.chat.me.name;
  const gone = entry.state === "recalled" || entry.state === "removed";
  const body = gone
    ? html`<em>${t(`thread.${entry.state}`)}</em>`
    : edited === null
      ? html`<${Attachments} entry=${entry} conversation=${conversation} onOpen=${onOpen} />
          ${(entry.text !== "" || !entry.files?.length) && html`<${Text} text=${entry.text} />`}`
      : html`<${Editor} chat=${conversation.chat} text=${edited} onDone=${async (text) => {
          if (text !== null && text !== entry.text) await conversation.edit(entry.seq, text);
          edit(null);
        }} />`;
  const [isOpen, open] = useState(false);
  const act = (work) => () => {
    open(false);
    work();
  };
  const actions = !gone && entry.seq > 0 && html`
    <button type="button" class="more" aria-expanded=${String(isOpen)} aria-label=${t("message.actions")} onClick=${() => open(!isOpen)}>⋯</button>
    ${isOpen && html`
      <span class="actions" role="group" aria-label=${t("message.actions")}>
        <button type="button" onClick=${act(() => onReply(entry))}>${t("message.reply")}</button>
        ${entry.text !== "" && html`<button type="button" onClick=${act(() => navigator.clipboard?.writeText(entry.text))}>${t("message.copy")}</button>`}
        ${mine && html`<button type="button" onClick=${act(() => edit(entry.text))}>${t("message.edit")}</button>`}
        ${mine && html`<${Action} plain work=${() => conversation.recall(entry.seq)}>${t("message.recall")}<//>`}
      </span>`}`;
  const answered = entry.reply > 0 && conversation.messages.find((one) => one.seq === entry.reply);
  return html`
    <article class=${`message${mine ? " mine" : ""}${entry.failed ? " failed" : ""}`} data-seq=${entry.seq}>
      ${!mine && conversation.isGroup && html`<strong class="from" dir="auto">${entry.from}</strong>`}
      ${answered && html`<blockquote dir="auto">${answered.from}: ${cut(lineOf(answered), 120)}</blockquote>`}
      ${body}
      <span class="meta">
        ${entry.state === "edited" && html`<span>${t("thread.edited")}</span>`}
        <time datetime=${new Date(entry.sm).toISOString()}>${time(entry.sm)}</time>
        ${mine && html`<span class="state">${stateOf(entry, conversation)}</span>`}
      </span>
      ${entry.failed && html`
        <span class="actions">
          <button type="button" onClick=${() => conversation.again(entry)}>${t("state.again")}</button>
          <button type="button" onClick=${() => conversation.discard(entry)}>${t("state.discard")}</button>
        </span>`}
      ${actions}
    </article>`;
}

/** onDone: fails with why the text was refused, which is then shown beside it. */
function Editor({ chat, text, onDone }) {
  const field = useRef(null);
  const [edited, setEdited] = useState(text);
  const [refused, setRefused] = useState("");
  const excess = useExcess(chat, edited);
  useEffect(() => field.current.focus(), []);
  const onKeyDown = (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    if (event.key === "Escape") onDone(null);
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (!excess) onDone(edited.trim() || null).catch((error) => setRefused(reasonOf(error)));
    }
  };
  return html`
    <textarea ref=${field} class="editor" dir="auto" aria-label=${t("message.edit")} value=${edited}
      onInput=${(event) => setEdited(event.currentTarget.value)} onKeyDown=${onKeyDown}></textarea>
    ${(excess || refused) && html`<p class="told" role="alert">${excess || refused}</p>`}`;
}

/** Messages of one block. It is drawn again only if one of them, or what the other has read, has changed. */
function Block({ entries, conversation, onReply, onOpen }) {
  const first = entries[0];
  const key = entries.map((one) => `${one.seq} ${one.version ?? 0}`).join() + `${conversation.readByOther} ${conversation.delivered}`;
  return useMemo(() => html`
    <div class="block">
      ${entries.flatMap((entry, at) => html`
        ${day(entry.sm) !== day((entries[at - 1] ?? { sm: 0 }).sm) && html`<p class="day" key=${`day ${entry.seq}`}>${day(entry.sm)}</p>`}
        <${Message} key=${entry.seq} entry=${entry} conversation=${conversation} onReply=${onReply} onOpen=${onOpen} />`)}
    </div>`, [key, first, conversation]);
}

/** Blocks that stay the same when earlier messages are loaded: by the numbers of the messages. */
function blocksOf(messages) {
  const blocks = new Map();
  for (const one of messages) {
    const number = Math.floor(one.seq / BLOCK);
    blocks.has(number) ? blocks.get(number).push(one) : blocks.set(number, [one]);
  }
  return [...blocks];
}

/** Messages with this text or files so named, of those that are loaded. */
function Found({ conversation, query, onReply, onOpen }) {
  const wanted = query.toLocaleLowerCase();
  const found = conversation.messages.filter(({ text, files = [] }) =>
    [text, ...files.map((one) => one.name)].some((one) => one.toLocaleLowerCase().includes(wanted)));
  return html`
    <div class="messages" tabindex="0" role="log" aria-label=${t("thread.messages", { name: conversation.title })}>
      <p class="edge" role="status">${t("thread.found", { count: found.length })}</p>
      ${found.slice(-FOUND).map((entry) => html`
        <${Message} key=${entry.seq} entry=${entry} conversation=${conversation} onReply=${onReply} onOpen=${onOpen} />`)}
    </div>`;
}

const topOf = (element) => element.getBoundingClientRect().top;

/** The first message of which something is shown, and how far down. @param {Element} box the list */
function firstShown(box) {
  const edge = topOf(box);
  const isShown = (one) => one.getBoundingClientRect().bottom > edge;
  for (const part of box.querySelectorAll(".block, .messages > .message")) {
    if (!isShown(part)) continue;
    const message = part.matches(".message") ? part : [...part.querySelectorAll(".message")].find(isShown);
    if (message) return { message, top: topOf(message) };
  }
  return null;
}

const isAtEnd = (box) => box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;

function Messages({ conversation, onReply, onOpen }) {
  const list = useRef(null);
  const place = useRef({ atEnd: true, top: 0, first: 0 });
  const { messages, waiting } = conversation;
  const first = messages[0]?.seq ?? 0;
  const before = list.current;
  // Who has scrolled up a moment ago is no longer at the end, though the event is still to come.
  if (before !== null && before.scrollTop < place.current.top && !isAtEnd(before)) place.current.atEnd = false;
  const kept = !place.current.atEnd && first < place.current.first && firstShown(before);
  useLayoutEffect(() => {
    const box = list.current;
    const { atEnd } = place.current;
    if (atEnd) box.scrollTop = box.scrollHeight;
    else if (kept) box.scrollTop += topOf(kept.message) - kept.top; // some browsers have done it themselves
    Object.assign(place.current, { first, top: box.scrollTop });
    if (atEnd && document.hasFocus()) conversation.seen().catch(() => {});
    if (box.scrollTop < AHEAD) conversation.load().catch(() => {});
  });
  const onScroll = () => {
    const box = list.current;
    Object.assign(place.current, { atEnd: isAtEnd(box), top: box.scrollTop });
    if (box.scrollTop < AHEAD) conversation.load().catch(() => {});
    if (place.current.atEnd) conversation.seen().catch(() => {});
  };
  useEffect(() => {
    const onFocus = () => place.current.atEnd && conversation.seen().catch(() => {});
    addEventListener("focus", onFocus);
    return () => removeEventListener("focus", onFocus);
  }, [conversation]);
  return html`
    <div class="messages" ref=${list} onScroll=${onScroll} tabindex="0" role="log" aria-label=${t("thread.messages", { name: conversation.title })}>
      <p class="edge">${conversation.complete ? t("thread.beginning") : conversation.loading ? t("thread.earlier") : ""}</p>
      ${blocksOf(messages).map(([number, entries]) => html`
        <${Block} key=${number} entries=${entries} conversation=${conversation} onReply=${onReply} onOpen=${onOpen} />`)}
      ${waiting.map((entry) => html`<${Message} key=${entry.fp} entry=${entry} conversation=${conversation} onReply=${onReply} />`)}
    </div>`;
}

/** Files that are dropped. isOver: they would be, now. @param {(files: File[]) => void} onFiles */
function useDrop(onFiles) {
  const [isOver, over] = useState(false);
  const hasFiles = (event) => event.dataTransfer.types.includes("Files");
  const drop = {
    onDragOver: (event) => over(hasFiles(event)),
    onDragLeave: (event) => !event.currentTarget.contains(event.relatedTarget) && over(false),
    onDrop: (event) => {
      over(false);
      if (hasFiles(event)) onFiles(filesOf(event.dataTransfer));
    },
  };
  return { isOver, drop };
}

/** @param {{conversation: import("./conversation.js").Conversation}} properties */
export function Thread({ conversation }) {
  useModel(conversation);
  const [reply, onReply] = useState(null);
  const [details, setDetails] = useState(false);
  const [query, setQuery] = useState("");
  const [opened, onOpen] = useState(null);
  const { isOver, drop } = useDrop((files) => conversation.stage(files));
  useEffect(() => setQuery(""), [conversation]);
  useEffect(() => onReply(null), [conversation]);
  useEffect(() => onOpen(null), [conversation]);
  const { chat, title, isGroup, writers } = conversation;
  const person = isGroup ? null : chat.people.get(conversation.key);
  return html`
    <main class=${`thread${isOver ? " over" : ""}`} aria-label=${title} ...${drop}>
      <header>
        <button type="button" class="back" onClick=${() => chat.show("")} aria-label=${t("app.back")}>‹</button>
        <h2 dir="auto">${title}</h2>
        ${person && html`<span class="presence">${presenceOf(person)}</span>`}
        <input type="search" aria-label=${t("thread.search")} placeholder=${t("thread.search")} value=${query}
          onInput=${(event) => setQuery(event.currentTarget.value)} />
        ${isGroup && html`<button type="button" class="plain" onClick=${() => setDetails(true)}>${t("groups.details")}</button>`}
      </header>
      ${query === ""
        ? html`<${Messages} key=${conversation.key} conversation=${conversation} onReply=${onReply} onOpen=${onOpen} />`
        : html`<${Found} conversation=${conversation} query=${query} onReply=${onReply} onOpen=${onOpen} />`}
      <p class="typing" aria-live="polite">${writers.length > 0 ? t("thread.typing", { name: writers.join(", ") }) : ""}</p>
      <${Composer} key=${`write ${conversation.key}`} conversation=${conversation} reply=${reply} onReply=${onReply} />
      ${opened && html`<${Lightbox} at=${opened} onMove=${onOpen} onClose=${() => onOpen(null)} />`}
      ${details && html`<${GroupDetails} chat=${chat} group=${Number(conversation.key.slice(1))} onClose=${() => setDetails(false)} />`}
    </main>`;
}
