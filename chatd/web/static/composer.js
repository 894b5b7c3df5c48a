/**
 * The field to write in, and the files that go with what is written.
 *
 * Owns: Composer. Elsewhere: sending (conversation.js), how chosen files are drawn (attachments.js). Fails: never.
 *
 * @module composer
 */

import { Tray } from "./attachments.js";
import { filesOf, lineOf } from "./files.js";
import { cut, t } from "./texts.js";
import { html, useEffect, useMemo, useRef, useState } from "./ui.js";

/** A paper clip. */
const CLIP = "M20 11.5 11.5 20a5 5 0 0 1-7-7L13 4.5a3.4 3.4 0 0 1 4.8 4.8L9.3 17.8a1.7 1.7 0 0 1-2.4-2.4L15 7.3";

/** The button that asks for files. @param {{conversation: import("./conversation.js").Conversation}} properties */
function Choose({ conversation }) {
  const input = useRef(null);
  const onChange = ({ currentTarget }) => {
    conversation.stage([...currentTarget.files]);
    currentTarget.value = ""; // the same file may be chosen again
  };
  return html`
    <input type="file" multiple hidden ref=${input} onChange=${onChange} />
    <button type="button" class="plain attach" aria-label=${t("files.attach")} title=${t("files.attach")} onClick=${() => input.current.click()}>
      <svg viewBox="0 0 24 24" width="22" height="22" fill="none" stroke="currentColor" stroke-width="2" aria-hidden="true"><path d=${CLIP} /></svg>
    </button>`;
}

/** Why a text cannot be sent as it is. "" = it can. @param {import("./chat.js").Chat} chat @param {string} text */
export function useExcess(chat, text) {
  const bytes = useMemo(() => new TextEncoder().encode(text).length, [text]);
  return bytes > chat.textBytes ? t("thread.too_long", { bytes, most: chat.textBytes }) : "";
}

export function Composer({ conversation, reply, onReply }) {
  const field = useRef(null);
  const [text, setText] = useState(conversation.draft);
  const { chat, staged, staging } = conversation;
  const isEmpty = text.trim() === "" && staged.length + staging === 0;
  const excess = useExcess(chat, text);
  const write = (value) => {
    setText(value);
    conversation.type(value);
  };
  useEffect(() => {
    setText(conversation.draft);
    field.current.focus();
  }, [conversation, reply]);
  const send = (event) => {
    event.preventDefault();
    if (isEmpty || excess) return;
    conversation.send(text.trim() === "" ? "" : text, reply ? { reply: reply.seq } : {});
    write("");
    onReply(null);
    field.current.focus();
  };
  const onKeyDown = (event) => {
    // While an input method composes a character, Enter belongs to it; 229 is what older browsers say then.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229) send(event);
    else if (event.key === "Escape" && reply) onReply(null);
  };
  const onPaste = (event) => {
    const files = filesOf(event.clipboardData);
    if (files.length === 0) return;
    event.preventDefault();
    conversation.stage(files);
  };
  const name = conversation.title;
  return html`
    <form class="composer" onSubmit=${send}>
      ${reply && html`
        <p class="replying"><span dir="auto">${reply.from}: ${cut(lineOf(reply), 120)}</span>
          <button type="button" onClick=${() => onReply(null)}>${t("app.cancel")}</button></p>`}
      ${excess && html`<p class="told" role="alert">${excess}</p>`}
      <${Tray} conversation=${conversation} />
      ${chat.limits.max_bytes > 0 && html`<${Choose} conversation=${conversation} />`}
      <textarea ref=${field} rows="1" dir="auto" aria-label=${t("thread.write", { name })} placeholder=${t("thread.write", { name })}
        value=${text} onInput=${(event) => write(event.currentTarget.value)} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
      <button type="submit" disabled=${isEmpty || excess !== ""}>${t("thread.send")}</button>
    </form>`;
}
