/**
 * One conversation, with another user or of a group: its messages as far as they are loaded, and what the user has
 * written there that the server has not answered yet.
 *
 * Owns: Conversation. Elsewhere: which conversations there are, and the connection (chat.js); drawing (thread.js).
 * Fails: load() passes on what the client throws, and can be called again.
 *
 * Messages have the numbers 1, 2, 3 … Those that are loaded are the newest ones without a gap, and earlier ones are
 * loaded from the newest to the oldest. After a time without a connection, what has come meanwhile is loaded first.
 *
 * @module conversation
 */

import { Code } from "./chatd.js";
import { released, stage } from "./files.js";
import { reasonOf } from "./refusals.js";
import { Model } from "./ui.js";

/** Messages that are loaded first, and earlier ones that are loaded at once. */
export const PAGE = 50;
const MORE = 100;
/** How long somebody counts as writing after the last sign of it, ms. */
const TYPING_MS = 6000;
/** Between two signs of the user's own writing, ms; the server passes on no more. */
const TYPE_EVERY_MS = 3000;
/** States of a message whose text and files are still there. */
const PRESENT = ["sent", "edited"];

/**
 * @typedef {object} Entry a message as it is shown
 * @property {number} seq 0 = the server has not answered yet
 * @property {string} from
 * @property {string} text
 * @property {number} sm when it was stored; of a waiting one, when it was written
 * @property {string} fp
 * @property {number} [reply]
 * @property {string} [state] as in the protocol
 * @property {import("./chatd.js").Attachment[]|import("./files.js").Staged[]} [files] of a waiting one, as they are uploaded
 * @property {number} [version]
 * @property {boolean} [failed] the server has refused it
 * @property {string} [why]
 */

export class Conversation extends Model {
  /** Settled when all files that were chosen are staged. @type {Promise<unknown>} */
  #staging = Promise.resolve();

  /** @param {import("./chat.js").Chat} chat @param {string} key a user's name, or "#" and a group's number */
  constructor(chat, key) {
    super();
    this.chat = chat;
    this.key = key;
    this.isGroup = key.startsWith("#");
    /** Loaded messages, the oldest first, without a gap. @type {Entry[]} */
    this.messages = [];
    /** Not answered yet, in the order of writing. @type {Entry[]} */
    this.waiting = [];
    /** The number of the newest message that there is; up to which one they are counted as unread, or not. */
    this.last = 0;
    this.counted = 0;
    this.unread = 0;
    /** Up to where the user has read, and the other one has. */
    this.read = 0;
    this.readByOther = 0;
    /** Up to where the other one's client has it. */
    this.delivered = 0;
    /** Whether the beginning is loaded. */
    this.complete = false;
    this.loading = false;
    this.draft = "";
    /** Files that go with the next message, and why others do not. @type {import("./files.js").Staged[]} */
    this.staged = [];
    /** @type {string[]} */
    this.told = [];
    /** Files that are being read. */
    this.staging = 0;
    this.scrolledAt = 0;
    /** By name: until when they count as writing. @type {Map<string, number>} */
    this.typing = new Map();
    this.typedAt = 0;
  }

  get title() {
    return this.isGroup ? (this.chat.groups.get(this.key)?.name ?? this.key) : this.key;
  }

  /** The newest message, for a list. @returns {Entry|undefined} */
  get newest() {
    return this.waiting.at(-1) ?? this.messages.at(-1);
  }

  get time() {
    return this.newest?.sm ?? 0;
  }

  // ------------------------------------------------------------ loading

  /** What the server says of it at a login. @param {{last: number, read: number, unread: number, delivered?: number, other_read?: number}} head */
  known(head) {
    this.readByOther = Math.max(this.readByOther, head.other_read ?? 0);
    this.delivered = Math.max(this.delivered, head.delivered ?? 0);
    if (head.last < this.last) return; // more has come since it was asked
    Object.assign(this, { last: head.last, counted: head.last, read: head.read, unread: head.unread });
    this.changed();
  }

  /** Load earlier messages, or the first ones. */
  async load() {
    if (this.loading || this.complete) return;
    this.loading = true;
    this.changed();
    try {
      const before = this.messages[0]?.seq;
      const limit = before === undefined ? PAGE : MORE;
      const found = await this.#page(before === undefined ? { limit } : { before, limit });
      this.#join(found);
      if (found.length < limit) this.complete = true;
      if (before === undefined && this.last > (this.messages.at(-1)?.seq ?? 0)) await this.catchUp();
    } finally {
      this.loading = false;
      this.changed();
    }
  }

  /** After a login: what has come meanwhile. If that is more than a page, the conversation begins again with it. */
  async catchUp() {
    const newest = this.messages.at(-1)?.seq;
    if (newest === undefined || newest >= this.last) return;
    const found = await this.#page({ limit: PAGE });
    if (found.length === PAGE && Math.min(...found.map((one) => one.seq)) > newest + 1) {
      this.messages = [];
      this.complete = false;
    }
    this.#join(found);
    this.changed();
  }

  async #page(bounds) {
    const found = [];
    for await (const one of this.chat.client.conversations.history(this.key, bounds)) found.push(one);
    return found;
  }

  /** @param {Entry[]} found in any order */
  #join(found) {
    const bySeq = new Map(this.messages.map((one) => [one.seq, one]));
    for (const one of found) {
      const known = bySeq.get(one.seq);
      if (known === undefined || (one.version ?? 0) >= (known.version ?? 0)) bySeq.set(one.seq, one);
    }
    this.messages = [...bySeq.values()].sort((one, other) => one.seq - other.seq);
    this.last = Math.max(this.last, this.messages.at(-1)?.seq ?? 0);
    if (this.messages[0]?.seq === 1) this.complete = true;
  }

  // ------------------------------------------------------------ what happens

  /** A message has come. @param {import("./chatd.js").Message} message */
  arrived({ seq, sender, text, sentAt, fp, reply, state, version, files, filesCut }) {
    this.typing.delete(sender);
    this.last = Math.max(this.last, seq);
    if (seq > this.counted) {
      this.counted = seq;
      if (sender !== this.chat.me.name) this.unread += 1;
    }
    this.#place({ seq, from: sender, text, sm: sentAt, fp, reply, state, version, files });
    if (filesCut) this.#page({ after: seq - 1, limit: 1 }).then((found) => this.#join(found), () => {}); // some are shown
    this.changed();
  }

  /** Put a message where it belongs, if that is loaded. @param {Entry} entry */
  #place(entry) {
    const { messages } = this;
    if (messages.length === 0 && entry.seq > 1) {
      this.complete = false;
      this.load().catch(() => {}); // the next login does it again
      return;
    }
    if (messages.length === 0) {
      messages.push(entry);
      this.complete = true;
      return;
    }
    const newest = messages.at(-1).seq;
    if (entry.seq === newest + 1) messages.push(entry);
    else if (entry.seq > newest) this.catchUp().catch(() => {});
    else if (entry.seq > messages[0].seq && !messages.some((one) => one.seq === entry.seq)) this.#join([entry]);
  }

  /** Somebody has edited, recalled or removed a message. @param {{seq: number, version: number, state: string, text?: string, files?: any[]}} change */
  edited({ seq, version, state, text = "", files }) {
    const at = this.messages.findIndex((one) => one.seq === seq);
    if (at < 0 || (this.messages[at].version ?? 0) >= version) return;
    this.messages = this.messages.with(at, { ...this.messages[at], version, state, text, files: PRESENT.includes(state) ? (files ?? this.messages[at].files) : [] });
    this.changed();
  }

  /** The other one's client has it up to here. @param {number} seq */
  deliveredTo(seq) {
    this.delivered = Math.max(this.delivered, seq);
    this.changed();
  }

  /** Somebody has read up to here. */
  readBy(name, seq) {
    if (name === this.chat.me.name) {
      this.read = Math.max(this.read, seq);
      this.#count();
    } else {
      this.readByOther = Math.max(this.readByOther, seq);
    }
    this.changed();
  }

  #count() {
    this.unread = this.messages.filter((one) => one.seq > this.read && one.from !== this.chat.me.name).length;
  }

  /** Somebody is writing. */
  writes(name) {
    this.typing.set(name, Date.now() + TYPING_MS);
    this.changed();
    setTimeout(() => this.changed(), TYPING_MS + 100);
  }

  /** Who is writing now. */
  get writers() {
    return [...this.typing].filter(([, until]) => until > Date.now()).map(([name]) => name);
  }

  // ------------------------------------------------------------ what the user does

  /** Files that somebody has chosen, dropped or pasted. @param {Iterable<File>} files */
  async stage(files) {
    const { limits } = this.chat;
    if (limits.max_bytes === 0) return;
    this.staging += 1;
    this.changed();
    this.#staging = this.#staging.then(async () => {
      const { taken, told } = await stage(files, this.staged, limits);
      Object.assign(this, { staged: [...this.staged, ...taken], told, staging: this.staging - 1 });
      this.changed();
    });
    await this.#staging;
  }

  /** @param {import("./files.js").Staged} file */
  unstage(file) {
    released([file]);
    Object.assign(this, { staged: this.staged.filter((one) => one !== file), told: [] });
    this.changed();
  }

  /** With the files that are staged. @param {string} text @param {{reply?: number}} [fields] */
  async send(text, fields = {}) {
    if (this.staging > 0) await this.#staging;
    if (text === "" && this.staged.length === 0) return;
    const files = this.staged.length > 0 ? this.staged : undefined;
    const entry = { seq: 0, from: this.chat.me.name, text, sm: Date.now(), fp: crypto.randomUUID(), files, ...fields };
    Object.assign(this, { waiting: [...this.waiting, entry], staged: [], told: [] });
    this.changed();
    this.chat.changed();
    if (files) await this.chat.outgoing.keep(this.#kept(entry));
    await this.#deliver(entry);
  }

  /** As outgoing.js keeps it. */
  #kept = ({ fp, text, reply, sm, files }) => ({ fp, to: this.key, text, reply, writtenAt: sm, files });

  /** One that was refused, again. @param {Entry} entry */
  async again(entry) {
    const { files } = entry;
    files?.forEach((one) => Object.assign(one, { done: undefined, sent: 0 }));
    const next = { ...entry, failed: false, why: "", fp: crypto.randomUUID() };
    this.#replace(entry.fp, next);
    if (files) {
      await this.chat.outgoing.keep(this.#kept(next));
      await this.chat.outgoing.forget(this.#kept(entry));
    }
    await this.#deliver(next);
  }

  /** @param {Entry} entry */
  discard(entry) {
    this.#replace(entry.fp, null);
    if (!entry.files) return;
    this.chat.outgoing.cancel(this.#kept(entry));
    released(entry.files);
  }

  async #deliver(entry) {
    const { fp, text, reply, files } = entry;
    for (;;) {
      try {
        const ids = files && (await this.chat.outgoing.upload(this.#kept(entry), () => this.changed()));
        if (!this.waiting.some((one) => one.fp === fp)) return; // discarded
        this.stored(await this.chat.client.send(this.key, text, { fp, reply, files: ids }));
        return;
      } catch (error) {
        if (error.fp === fp && error.temporary) continue; // not answered in time, and still sent
        const waits = this.waiting.find((one) => one.fp === fp);
        if (!waits || this.chat.isOver) return;
        if (error.code === Code.UNKNOWN_FILE) files?.forEach((one) => (one.id = undefined)); // it waited for too long
        this.#replace(fp, { ...waits, failed: true, why: reasonOf(error) });
        return;
      }
    }
  }

  /** One that an earlier page has left.
   * @param {{fp: string, text: string, writtenAt: number, reply?: number, files?: import("./files.js").Staged[]}} message */
  resumed({ fp, text, writtenAt, reply, files }) {
    if (this.waiting.some((one) => one.fp === fp)) return;
    const entry = { seq: 0, from: this.chat.me.name, text, sm: writtenAt, fp, reply, files };
    this.waiting = [...this.waiting, entry];
    this.#deliver(entry);
    this.changed();
  }

  /** @param {{seq: number, sentAt: number, fp: string}} receipt */
  stored({ seq, sentAt, fp }) {
    const entry = this.waiting.find((one) => one.fp === fp);
    if (entry === undefined) return;
    this.waiting = this.waiting.filter((one) => one.fp !== fp);
    this.last = Math.max(this.last, seq);
    this.counted = Math.max(this.counted, seq);
    this.#place({ ...entry, seq, sm: sentAt, files: entry.files?.map((one) => one.done) });
    if (entry.files) this.chat.outgoing.forget(this.#kept(entry));
    released(entry.files);
    this.changed();
    this.chat.changed();
  }

  #replace(fp, entry) {
    const others = this.waiting.filter((one) => one.fp !== fp);
    this.waiting = entry === null ? others : [...others, entry];
    this.changed();
    this.chat.changed();
  }

  edit = (seq, text) => this.chat.client.conversations.edit(this.key, seq, text).then((done) => this.edited({ ...done, text }));

  recall = (seq) => this.chat.client.conversations.recall(this.key, seq).then((done) => this.edited(done));

  /** The user sees the newest message. */
  async seen() {
    const seq = this.messages.at(-1)?.seq ?? 0;
    if (seq <= this.read || !this.chat.isLive) return;
    this.readBy(this.chat.me.name, seq);
    this.chat.changed();
    await this.chat.client.conversations.markRead(this.key, seq);
  }

  /** The user is writing. */
  type(draft) {
    this.draft = draft;
    if (draft === "" || !this.chat.isLive || Date.now() - this.typedAt < TYPE_EVERY_MS) return;
    this.typedAt = Date.now();
    this.chat.client.conversations.typing(this.key).catch(() => {}); // nobody misses it
  }
}
