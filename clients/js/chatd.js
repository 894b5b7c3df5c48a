/**
 * A client of chatd for web pages and Node.js: one ES module, no build step, no dependencies.
 *
 * It speaks the mobileimsdk wire over WebSocket. It stays logged in over lost connections, sends each message until it
 * is durably stored (once), and gives each message to the program once. The names are those of the Python client.
 *
 * Owns: the protocol and the state of one login. Elsewhere: what a page shows; what is kept over reloads is in a
 * Journal, of which IndexedDbJournal and MemoryJournal are two. Fails: with ChatError and its subclasses; TypeError and
 * RangeError for arguments that can never be right.
 *
 * The sections: errors; times and options; timers and JSON; what is remembered; messages to the program; messages of
 * the program; requests; the session; the operations of the server by subject; the client; the timers of a worker.
 *
 * @license Apache-2.0
 * @module chatd
 */

export const VERSION = "0.1.0";

// ================================================================ errors

/** Why a server refuses. Other numbers are those of plug-ins and of later servers. */
export const Code = Object.freeze({
  UNKNOWN: 2, INVALID_PACKET: 4, NOT_LOGGED_IN: 301, BAD_CREDENTIALS: 1025, ALREADY_LOGGED_IN: 1026, NAME_TAKEN: 1027,
  NAME_NOT_ALLOWED: 1028, PASSWORD_NOT_ALLOWED: 1029, REGISTRATION_CLOSED: 1030, CLAIMED_IDENTITY: 1031,
  UNKNOWN_RECIPIENT: 1032, NOT_A_MEMBER: 1033, UNKNOWN_GROUP: 1034, TOO_LONG: 1035, BAD_FIELD: 1036,
  UNKNOWN_REQUEST: 1037, TOO_FAST: 1038, NOT_ALLOWED: 1039, UNAVAILABLE: 1040, BUSY: 1041, LIMIT_REACHED: 1042,
  INTERNAL: 1043, FP_REUSED: 1044, TOO_MANY_ATTEMPTS: 1045, ACCOUNT_LOCKED: 1046, INVITE_NEEDED: 1047, TLS_NEEDED: 1048,
  NOT_ACCEPTED: 1049, BLOCKED_BY_YOU: 1050, MUTED: 1051, ANNOUNCEMENTS_ONLY: 1052, MAILBOX_FULL: 1053, BANNED: 1054,
  INVITATION_NEEDED: 1055, APPROVAL_PENDING: 1056, UNKNOWN_MESSAGE: 1057, TOO_LATE: 1058, TOKEN_EXPIRED: 1066,
  UNKNOWN_FILE: 1068, FILE_TYPE_NOT_ALLOWED: 1069, FILE_TOO_LARGE: 1070, QUOTA_REACHED: 1071, OFFSET_MISMATCH: 1072,
  FILE_DAMAGED: 1073,
});

/** Codes of refusals after which the same may succeed later. @type {Set<number>} */
const TEMPORARY = new Set([
  Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY, Code.INTERNAL, Code.TOO_MANY_ATTEMPTS, Code.MAILBOX_FULL,
]);
/** Of these, the ones after which a request is asked again by itself. @type {Set<number>} */
const PUT_OFF = new Set([Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY]);

/** Base of every error of this module. */
export class ChatError extends Error {
  /** @param {string} text one line for a person @param {number} [code] a Code, or 0 where no server has spoken */
  constructor(text, code = 0) {
    super(text);
    this.name = new.target.name;
    this.code = code;
    /** Whether doing the same again may succeed. */
    this.temporary = TEMPORARY.has(code);
  }
}
/** No login in time; open() gives up. */
export class Unreachable extends ChatError {}
/** This login is over, and does not come back by itself. Messages that were not taken stay with the server, and
 * messages that were not acknowledged in the journal, if there is one. */
export class SessionEnded extends ChatError {}
/** The server does not let this user in: code says why. */
export class LoginRefused extends SessionEnded {}
/** The server, or another page that took the journal over, has ended the session. */
export class Kicked extends SessionEnded {
  /**
   * @param {string} text
   * @param {"duplicate"|"admin"|"expired"} why duplicate: the user has logged in elsewhere; coming back by itself, this
   *   client would end that session in turn. admin: by an administrator, or the password was changed. expired: the
   *   token
   */
  constructor(text, why) {
    super(text);
    this.why = why;
  }
}
/** The client was closed by the program, or is not open yet. */
export class ClientClosed extends SessionEnded {}
/** Another page uses the journal, or it is another user's. */
export class JournalUnusable extends SessionEnded {}

/** The server has refused; nothing was changed or stored. */
export class Refused extends ChatError {
  /** @param {string} text @param {number} code @param {string} [fp] of the message or request */
  constructor(text, code, fp = "") {
    super(text || "refused", code);
    this.fp = fp;
  }
}
/** No such user, group or message. */
export class NotFound extends Refused {}
/** The user may not do this: not a member, blocked, muted, banned, not the owner … */
export class NotPermitted extends Refused {}
/** This cannot be served as it is: too long, a wrong field, a name that is taken or not allowed. */
export class Invalid extends Refused {}
/** A limit of the server, or a full mailbox. */
export class LimitReached extends Refused {}
/** Too fast, busy, or unavailable at the moment. */
export class TryLater extends Refused {}
/** This server does not have the operation. */
export class NotOffered extends Refused {}

/** Not stored in time, and still sent. To wait again, send the same with fp = error.fp: it is stored once. */
export class NotAcknowledged extends ChatError {
  /** @param {string} text @param {string} fp */
  constructor(text, fp) {
    super(text);
    this.fp = fp;
    this.temporary = true;
  }
}
/** The server did not answer in time: whether a request was carried out is not known. */
export class NoAnswer extends ChatError {
  /** @param {string} text */
  constructor(text) {
    super(text);
    this.temporary = true;
  }
}
/** Too many messages wait for their acknowledgement, or requests for their answer. Nothing was sent. */
export class Overloaded extends ChatError {
  /** @param {string} text */
  constructor(text) {
    super(text);
    this.temporary = true;
  }
}

/** @type {[typeof Refused, (keyof typeof Code)[]][]} */
const KINDS = [
  [NotFound, ["UNKNOWN_RECIPIENT", "UNKNOWN_GROUP", "UNKNOWN_MESSAGE", "UNKNOWN_FILE"]],
  [NotPermitted, [
    "CLAIMED_IDENTITY", "NOT_A_MEMBER", "NOT_ALLOWED", "NOT_ACCEPTED", "BLOCKED_BY_YOU", "MUTED", "ANNOUNCEMENTS_ONLY",
    "BANNED", "INVITATION_NEEDED", "APPROVAL_PENDING", "TOO_LATE", "BAD_CREDENTIALS", "ACCOUNT_LOCKED", "TLS_NEEDED",
    "REGISTRATION_CLOSED", "INVITE_NEEDED", "TOKEN_EXPIRED", "FILE_TYPE_NOT_ALLOWED",
  ]],
  [Invalid, [
    "INVALID_PACKET", "NAME_TAKEN", "NAME_NOT_ALLOWED", "PASSWORD_NOT_ALLOWED", "TOO_LONG", "BAD_FIELD", "FP_REUSED",
    "OFFSET_MISMATCH", "FILE_DAMAGED",
  ]],
  [LimitReached, ["LIMIT_REACHED", "MAILBOX_FULL", "FILE_TOO_LARGE", "QUOTA_REACHED"]],
  [TryLater, ["TOO_FAST", "UNAVAILABLE", "BUSY", "INTERNAL", "TOO_MANY_ATTEMPTS"]],
  [NotOffered, ["UNKNOWN_REQUEST"]],
];
/** @type {Map<number, typeof Refused>} */
const KIND_OF = new Map();
for (const [kind, names] of KINDS) for (const name of names) KIND_OF.set(Code[name], kind);

/** The error for a refusal of the server. @param {number} code @param {string} text @param {string} [fp] */
export function refusal(code, text, fp = "") {
  return new (KIND_OF.get(code) ?? Refused)(text, code, fp);
}

// ================================================================ times and options

/**
 * Every wait, in milliseconds.
 * @typedef {object} Timing
 * @property {number} connect for a WebSocket to open
 * @property {number} answer for the answer to a login, a message, a request or a sign of life. A connection on which
 *   one is not answered is replaced
 * @property {number} enter for the first login, with all its attempts; Infinity for a page that may be opened offline
 * @property {number} send for the acknowledgement of a message, over all connections that this takes; may be Infinity
 * @property {number} keepAlive between two signs of life; not more than the server's listen.keep_alive_s
 * @property {number} probe for the answer to a sign of life after the network or the page came back
 * @property {number} backoffFirst the first pause between two attempts to connect
 * @property {number} backoffMost the longest
 * @property {number} steady after a connection that lasted this long, pauses begin again with the shortest
 * @property {number} settle the longest wait for acknowledgements in close()
 */
/** The defaults. @type {Readonly<Timing>} */
export const TIMING = Object.freeze({
  connect: 5000, answer: 15000, enter: 30000, send: 60000, keepAlive: 10000, probe: 3000, backoffFirst: 200,
  backoffMost: 15000, steady: 2000, settle: 10000,
});

/**
 * What a program may choose. password or token is needed.
 * @typedef {object} Options
 * @property {string} [password]
 * @property {string|(() => string|Promise<string>)} [token] a token, or a function that gets one for each login
 * @property {Journal|null} [journal] what is kept over reloads; without one, only as long as the client lives
 * @property {string[]} [features] what is asked of chatd at the login; default: seq and typing. Without seq, messages
 *   have no numbers
 * @property {Record<string, unknown>} [extra] further members of `extra` in the login, for plug-ins of the server
 * @property {number} [inboxMessages] maximum messages that wait to be taken; default 4096. A server gives fewer than
 *   this (limits.in_flight, 512 by default) before it waits for acknowledgements; if one does not, the client
 *   disconnects until half of them are taken
 * @property {number} [feedEvents] maximum events that wait for events(); default 1000. The oldest are dropped
 * @property {Partial<Timing>} [timing]
 * @property {string} [http] where the server's files are, such as https://chat.example.org; default: what the server
 *   says, or the host of its WebSocket
 * @property {string|URL} [timers] the URL of this file on the page's own origin. The timers of a hidden page then run
 *   in a worker, which browsers do not slow down. A Content-Security-Policy with `trusted-types` has to name `chatd`
 * @property {SocketClass} [WebSocket] in place of the global one: that of the package ws, for Node.js before 22
 */

/**
 * What a client uses of a WebSocket.
 * @typedef {object} Socket
 * @property {number} readyState
 * @property {((event: any) => void)|null} onopen
 * @property {((event: any) => void)|null} onmessage
 * @property {((event: any) => void)|null} onclose
 * @property {((event: any) => void)|null} onerror
 * @property {(data: string) => void} send
 * @property {() => void} close
 */
/** @typedef {new (url: string, protocols: string) => Socket} SocketClass */

// ================================================================ timers and JSON

/** A longer timer would fire at once; 24 days. */
const LONGEST_MS = 2 ** 31 - 1;
/** The name of the worker that runs the timers of a hidden page. */
const TIMER_WORKER = "chatd timers";

/** Timers that fire on time in a hidden page as well, once watch() has told where this file is. */
class Clock {
  constructor() {
    /** @type {Map<number, {work: () => void, due: number, timer: ReturnType<typeof setTimeout>}>} */
    this.waiting = new Map();
    this.numbers = 0;
    /** @type {Worker|null} */
    this.worker = null;
  }
  /** @param {number} ms above LONGEST_MS, never @param {() => void} work @returns {() => void} cancels it */
  after(ms, work) {
    if (ms > LONGEST_MS) return () => {};
    const number = (this.numbers += 1);
    const timer = setTimeout(() => this._fire(number), ms);
    this.waiting.set(number, { work, due: Date.now() + ms, timer });
    if (this.worker !== null && document.hidden) this.worker.postMessage([number, ms]);
    return () => {
      clearTimeout(timer);
      this.waiting.delete(number);
    };
  }
  /** @param {number} number */
  _fire(number) {
    const one = this.waiting.get(number);
    if (one === undefined) return;
    clearTimeout(one.timer);
    this.waiting.delete(number);
    one.work();
  }
  /** Without a worker (an old browser, a Content-Security-Policy that does not allow it) the timers are the page's.
   * @param {string|URL} url of this file */
  watch(url) {
    if (this.worker !== null || typeof document === "undefined" || typeof Worker === "undefined") return;
    try {
      const policy = Reflect.get(globalThis, "trustedTypes")?.createPolicy("chatd", { createScriptURL: String });
      const trusted = policy?.createScriptURL(url) ?? url;
      this.worker = new Worker(trusted, { type: "module", name: TIMER_WORKER });
    } catch {
      return;
    }
    this.worker.onmessage = ({ data }) => this._fire(data);
    this.worker.onerror = (event) => event.preventDefault();
    const hand = () => {
      if (!document.hidden) return;
      for (const [number, { due }] of this.waiting) this.worker?.postMessage([number, Math.max(0, due - Date.now())]);
    };
    document.addEventListener("visibilitychange", hand);
    hand();
  }
}
const clock = new Clock();

/** Pauses twice as long each time, each shortened by up to half at random, so that not all clients of a server that was
 * restarted come at once. */
class Backoff {
  /** @param {number} first ms @param {number} most ms */
  constructor(first, most) {
    this.first = this.now = first;
    this.most = most;
  }
  next() {
    const wait = this.now;
    this.now = Math.min(wait * 2, this.most);
    return wait * (0.5 + Math.random() / 2);
  }
  reset() {
    this.now = this.first;
  }
}

/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) => new Promise((resolve) => void clock.after(ms, resolve));

/**
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (value: T) => void, reject: (error: unknown) => void}} Deferred
 */
/** A promise with its functions. It never counts as unhandled: whoever waits is told.
 * @template T @returns {Deferred<T>} */
function deferred() {
  /** @type {(value: T) => void} */ let resolve = () => {};
  /** @type {(error: unknown) => void} */ let reject = () => {};
  /** @type {Promise<T>} */
  const promise = new Promise((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}

/** The promise, or the error that late() makes after ms.
 * @template T @param {number} ms @param {Promise<T>} promise @param {() => unknown} late @returns {Promise<T>} */
function within(ms, promise, late) {
  const limit = /** @type {Deferred<T>} */ (deferred());
  const cancel = clock.after(ms, () => limit.reject(late()));
  return Promise.race([promise, limit.promise]).finally(cancel);
}

/** Until the promise is settled, or ms are over. @param {number} ms @param {Promise<unknown>} promise */
const atMost = (ms, promise) => within(ms, promise, () => undefined).catch(() => {});

/** A half of a surrogate pair is no character, and no server reads it. @param {string} text */
const wellFormed = (text) => text.replace(/\p{Surrogate}/gu, "\uFFFD");

/** JSON, with a bigint as a number. @param {unknown} value @returns {string} */
function toJson(value) {
  let big = false;
  const json = JSON.stringify(value, (_, one) => {
    if (typeof one === "string") return wellFormed(one);
    if (typeof one !== "bigint") return one;
    big = true;
    return `\uE000${one}`;
  });
  return big ? json.replace(/"\uE000(-?\d+)"/g, "$1") : json;
}

/** Strings, which stay as they are, or integers that may be beyond 2^53. */
const LONG = /"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g;

/** A text as JSON, numbers beyond 2^53 as strings; {} for anything but an object.
 * @param {unknown} text @returns {any} */
function parsed(text) {
  if (typeof text !== "string") return {};
  try {
    const exact = !/\d{16}/.test(text) ? text : text.replace(LONG, (one) =>
      one.startsWith('"') || Number.isSafeInteger(Number(one)) ? one : `"${one}"`);
    const value = JSON.parse(exact);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** A number as a request takes it, which parsed() may have given as a text. @param {number|string|bigint} id */
const exactly = (id) => (typeof id === "string" && /^-?\d+$/.test(id) ? BigInt(id) : id);

/** An id that nobody else makes. crypto.randomUUID needs a secure context, this does not. */
function newFp() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((one) => one.toString(16).padStart(2, "0")).join("");
}

// ================================================================ what is remembered

/** Numbers kept of one conversation. A server has far fewer messages in flight to one client. */
const WINDOW = 1024;
/** Numbers kept in all; over it, the conversation that was silent longest is forgotten. */
const TOTAL = 32768;
/** Of these, the ones that a journal keeps of a conversation. Every number below them counts as taken. */
const KEPT = 256;
/** Fps of answers, notices and messages without a number that are remembered, to know copies. */
const RECENT = 10000;
/** A server knows a message again by its fp for a week. An older one could be stored twice. */
const FP_KEPT_MS = 6 * 24 * 3600 * 1000;

/** @typedef {number|string} ConversationId */
/** @typedef {{conversationId: ConversationId, seq: number, sentAt: number}} Numbered */
/** @typedef {{floor: number, newest: number, times: Map<number, number>}} Taken */

/**
 * Which messages the program has taken: of each conversation the numbers, with the times of storing. A server that lost
 * its data begins again with 1; then the same number has another time, or a number below the window a later one.
 */
class Seen {
  constructor() {
    /** The one that was silent longest comes first. @type {Map<ConversationId, Taken>} */
    this.conversations = new Map();
    this.total = 0;
  }
  /** @param {Numbered} message */
  has({ conversationId, seq, sentAt }) {
    const one = this.conversations.get(conversationId);
    if (one === undefined) return false;
    const known = one.times.get(seq);
    return known !== undefined ? known === sentAt : seq <= one.floor && sentAt <= one.newest;
  }
  /** @param {Numbered} message @returns {ConversationId[]} the conversations that were forgotten for it */
  add(message) {
    const { conversationId: id, seq, sentAt } = message;
    if (this.has(message)) return [];
    const known = this.conversations.get(id);
    const again = known !== undefined && (seq <= known.floor || known.times.has(seq));
    if (again) this._forget(id);
    const one = known === undefined || again ? { floor: 0, newest: 0, times: new Map() } : known;
    one.times.set(seq, sentAt);
    one.newest = Math.max(one.newest, sentAt);
    this.total += 1;
    if (one.times.size > WINDOW) {
      const lowest = Math.min(...one.times.keys());
      one.times.delete(lowest);
      one.floor = Math.max(one.floor, lowest);
      this.total -= 1;
    }
    this.conversations.delete(id);
    this.conversations.set(id, one);
    const forgotten = [];
    while (this.total > TOTAL) {
      const [first] = this.conversations.keys();
      this._forget(first);
      forgotten.push(first);
    }
    return forgotten;
  }
  /** @param {ConversationId} id */
  _forget(id) {
    this.total -= this.conversations.get(id)?.times.size ?? 0;
    this.conversations.delete(id);
  }
  /** What a journal keeps of a conversation. @param {ConversationId} id */
  kept(id) {
    const { floor, newest, times } = /** @type {Taken} */ (this.conversations.get(id));
    const sorted = [...times].sort(([one], [other]) => one - other);
    const dropped = sorted.length > KEPT ? sorted[sorted.length - KEPT - 1][0] : 0;
    return { id, floor: Math.max(floor, dropped), newest, times: sorted.slice(-KEPT) };
  }
  /** @param {{id: ConversationId, floor: number, newest: number, times: [number, number][]}} kept */
  restore({ id, floor, newest, times }) {
    this._forget(id);
    this.conversations.set(id, { floor, newest, times: new Map(times) });
    this.total += times.length;
  }
}

/**
 * What a client keeps over reloads and restarts: a map from texts to values that can be cloned. A message counts as
 * taken once its set() is done, and is sent once its set() is done. A journal that fails is given up: the client goes
 * on and remembers only as long as it lives, which the event "journal.lost" tells.
 * @typedef {object} Journal
 * @property {(lost: (why: string) => void) => Promise<void>} [open] before the first use. Rejects with JournalUnusable
 *   if it is in use elsewhere. lost: is called when another page takes it over later
 * @property {() => Promise<[string, any][]>} entries
 * @property {(key: string, value: any) => Promise<void>} set
 * @property {(key: string) => Promise<void>} delete
 * @property {() => Promise<void>} [close] after the last use
 */

/** A Journal for as long as the program runs, from one client to the next. @implements {Journal} */
export class MemoryJournal {
  constructor() {
    /** @type {Map<string, any>} */
    this.map = new Map();
  }
  /** @returns {Promise<[string, any][]>} */
  async entries() {
    return structuredClone([...this.map]);
  }
  /** @param {string} key @param {any} value */
  async set(key, value) {
    this.map.set(key, structuredClone(value));
  }
  /** @param {string} key */
  async delete(key) {
    this.map.delete(key);
  }
}

/** How long a journal that is in use is waited for: the page before a reload takes a moment to end. */
const LOCK_MS = 1000;
/** How long another page may take to let go, in ms; then it is believed to be frozen. */
const TAKE_OVER_MS = 3000;

/**
 * A Journal in the browser's IndexedDB; one per user and server. One page at a time uses it (Web Locks, which need
 * https or localhost; elsewhere two pages would log in both, and the later one ends the earlier one's session). What
 * was written outlives the page and the browser; it may be lost with the power of the machine.
 * @implements {Journal}
 */
export class IndexedDbJournal {
  /**
   * @param {string} name for instance "chat.example.org/alice"
   * @param {{takeOver?: boolean}} [options] takeOver: a page that uses it ends its session (Kicked, "duplicate"), and
   *   this one goes on. Otherwise open() rejects with JournalUnusable
   */
  constructor(name, { takeOver = false } = {}) {
    this.name = `chatd:${name}`;
    this.takeOver = takeOver;
    /** @type {IDBDatabase|null} */
    this._database = null;
    this._release = () => {};
    /** @type {BroadcastChannel|null} */
    this._channel = null;
  }
  /** @param {(why: string) => void} lost */
  async open(lost) {
    const channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(this.name);
    try {
      if (globalThis.navigator?.locks) await this._lock(channel, lost);
      this._database = await this._open();
    } catch (error) {
      channel?.close();
      this._release();
      throw error;
    }
    this._channel = channel;
    if (channel !== null) channel.onmessage = () => lost("another page has taken over");
  }
  /** @param {BroadcastChannel|null} channel @param {(why: string) => void} lost */
  async _lock(channel, lost) {
    if (this.takeOver) channel?.postMessage("let go");
    if (await this._request({ signal: AbortSignal.timeout(this.takeOver ? TAKE_OVER_MS : LOCK_MS) }, lost)) return;
    if (this.takeOver && (await this._request({ steal: true }, lost))) return;
    throw new JournalUnusable(`another page uses ${this.name}`);
  }
  /** @param {LockOptions} options @param {(why: string) => void} lost @returns {Promise<boolean>} whether it was got */
  _request(options, lost) {
    return new Promise((resolve) => {
      const held = () => new Promise((release) => {
        this._release = () => release(undefined);
        resolve(true);
      });
      navigator.locks.request(this.name, options, held).catch(() => {
        resolve(false);
        if (this._database !== null) lost("another page has taken over");
      });
    });
  }
  /** @returns {Promise<IDBDatabase>} */
  _open() {
    return new Promise((resolve, reject) => {
      const opening = indexedDB.open(this.name, 1);
      opening.onupgradeneeded = () => void opening.result.createObjectStore("journal");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
  }
  /** @template T @param {"readonly"|"readwrite"} mode @param {(store: IDBObjectStore) => T} work
   * @returns {Promise<T>} */
  _do(mode, work) {
    return new Promise((resolve, reject) => {
      if (this._database === null) throw new Error("the journal is closed");
      const transaction = this._database.transaction("journal", mode);
      const result = work(transaction.objectStore("journal"));
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
  /** @returns {Promise<[string, any][]>} */
  async entries() {
    const read = (/** @type {IDBObjectStore} */ store) => ({ keys: store.getAllKeys(), values: store.getAll() });
    const { keys, values } = await this._do("readonly", read);
    return keys.result.map((key, at) => [String(key), values.result[at]]);
  }
  /** @param {string} key @param {any} value */
  async set(key, value) {
    await this._do("readwrite", (store) => void store.put(value, key));
  }
  /** @param {string} key */
  async delete(key) {
    await this._do("readwrite", (store) => void store.delete(key));
  }
  async close() {
    this._channel?.close();
    this._channel = null;
    this._database?.close(); // after the transactions that run
    this._database = null;
    this._release();
  }
}

/** Seen, and the Journal behind it. */
class Memory {
  /** @param {Journal|null} journal @param {(text: string) => void} onLost is told once when the journal fails */
  constructor(journal, onLost) {
    this.journal = journal;
    this.onLost = onLost;
    this.seen = new Seen();
    /** What is being written. @type {Set<Promise<unknown>>} */
    this.busy = new Set();
    /** @type {Promise<void>|null} */
    this.closed = null;
  }
  /** The messages of an earlier run that no server has answered, in order. Rejects with JournalUnusable.
   * @param {string} owner whose memory it is @param {(why: string) => void} taken the journal is another page's now
   * @returns {Promise<{pending: OutgoingMessage[], tooOld: OutgoingMessage[]}>} */
  async load(owner, taken) {
    await this._try((journal) => journal.open?.(taken));
    /** @type {OutgoingMessage[]} */ const pending = [];
    /** @type {OutgoingMessage[]} */ const tooOld = [];
    const found = (await this._try((journal) => journal.entries())) ?? [];
    const known = found.find(([key]) => key === "owner")?.[1] ?? owner;
    if (known !== owner) {
      await this.close();
      throw new JournalUnusable(`this is the journal of ${known}, not of ${owner}`);
    }
    await this._try((journal) => journal.set("owner", owner));
    for (const [key, value] of found) {
      if (key.startsWith("seen:")) this.seen.restore(value);
      else if (key.startsWith("sent:")) (Date.now() - value.writtenAt < FP_KEPT_MS ? pending : tooOld).push(value);
    }
    for (const { fp } of tooOld) this.settled(fp);
    return { pending: pending.sort((one, other) => one.order - other.order), tooOld };
  }
  /** @param {Numbered} message */
  async took(message) {
    for (const id of this.seen.add(message)) this._try((journal) => journal.delete(`seen:${id}`));
    const id = message.conversationId;
    await this._try((journal) => journal.set(`seen:${id}`, this.seen.kept(id)));
  }
  /** @param {OutgoingMessage} message */
  wrote(message) {
    return this._try((journal) => journal.set(`sent:${message.fp}`, message));
  }
  /** @param {string} fp */
  settled(fp) {
    return this._try((journal) => journal.delete(`sent:${fp}`));
  }
  /** After what is being written. @returns {Promise<void>} */
  close() {
    return (this.closed ??= this._close());
  }
  async _close() {
    const { journal } = this;
    this.journal = null;
    await Promise.allSettled([...this.busy]);
    await journal?.close?.();
  }
  /** @template T @param {(journal: Journal) => T} use @returns {Promise<Awaited<T>|undefined>} */
  async _try(use) {
    if (this.journal === null) return undefined;
    const { journal } = this;
    const work = (async () => use(journal))();
    this.busy.add(work);
    try {
      return await work;
    } catch (error) {
      if (error instanceof JournalUnusable) throw error;
      if (this.journal !== null) this.onLost(String(error));
      this.journal = null;
      return undefined;
    } finally {
      this.busy.delete(work);
    }
  }
}

// ================================================================ messages to the program

/**
 * A message that another user has sent.
 * @typedef {object} Message
 * @property {string} conversation as send() takes it: the other user's name, or "#" and the group's number
 * @property {ConversationId} conversationId
 * @property {string} sender
 * @property {string} text "" if it was recalled or removed before it was delivered (state)
 * @property {number} seq its number in the conversation: 1, 2, 3 …; 0 from a server that does not number
 * @property {number} sentAt when it was stored, ms since the epoch, by the server's clock
 * @property {string} fp the sender's own id of it
 * @property {number} typeu the application's own sub-type; -1 = none
 * @property {number} reply the seq of the message that it answers; 0 = none
 * @property {number[]|"all"} mentions numbers of members whom it names
 * @property {number} version how often it was changed before it was delivered
 * @property {string} state sent, edited, recalled, removed, erased or expired
 * @property {Attachment[]} files that came with it
 * @property {boolean} filesCut there are more than fitted into the packet; history() has them all
 */
/** A file of a message. type: its media type. width, height: of a picture, in pixels, as it is shown
 * @typedef {{id: string, name: string, size: number, type: string, width?: number, height?: number}} Attachment */

/** Messages that wait to be taken. One counts as taken when the next one is asked for. */
class Inbox {
  /** @param {number} limit @param {(key: string, message: Message) => Promise<void>} taken */
  constructor(limit, taken) {
    this.limit = limit;
    this.taken = taken;
    /** @type {Map<string, Message>} */
    this.waiting = new Map();
    /** What the program has at the moment. @type {[string, Message]|null} */
    this.current = null;
    /** @type {Deferred<Message>|null} */
    this.reader = null;
    /** @type {ChatError|null} */
    this.end = null;
    /** Whether it was full, and is not half empty yet. */
    this.full = false;
    this.onRoom = () => {};
  }
  /** @param {string} key */
  holds(key) {
    return this.waiting.has(key) || this.current?.[0] === key;
  }
  /** @param {string} key @param {Message} message @returns {boolean} false: there is no room */
  put(key, message) {
    if (this.waiting.size >= this.limit) {
      this.full = true;
      return false;
    }
    this.waiting.set(key, message);
    this._serve();
    return true;
  }
  async finish() {
    const current = this.current;
    if (current === null) return;
    await this.taken(...current);
    this.current = null;
  }
  /** @returns {Promise<Message>} */
  async next() {
    if (this.reader !== null) throw new ChatError("messages are read in two places at once: read them in one");
    const reader = (this.reader = /** @type {Deferred<Message>} */ (deferred()));
    try {
      await this.finish();
      this._serve();
      return await reader.promise;
    } finally {
      this.reader = null;
    }
  }
  /** The next message may be asked for again by somebody else: nothing is lost. @param {unknown} error */
  cancel(error) {
    this.reader?.reject(error);
  }
  _serve() {
    if (this.reader === null || this.current !== null) return;
    const [first] = this.waiting;
    if (first !== undefined) {
      this.waiting.delete(first[0]);
      this.current = first;
      this.reader.resolve(first[1]);
      if (this.full && this.waiting.size <= this.limit / 2) {
        this.full = false;
        this.onRoom();
      }
    } else if (this.end !== null) {
      this.reader.reject(this.end);
    }
  }
  /** @param {ChatError} why */
  close(why) {
    this.end = why;
    this.waiting.clear();
    this._serve();
  }
}

/** Something that happened besides messages. @typedef {{event: string, data: any}} ChatEvent */

/** Handlers of events, and those that read them one by one. */
class Feed {
  /** @param {number} limit of events that wait for a reader */
  constructor(limit) {
    this.limit = limit;
    /** @type {Map<string, Set<(data: any, event: string) => void>>} */
    this.handlers = new Map();
    /** @type {Set<{waiting: ChatEvent[], lost: number, news: () => void}>} */
    this.readers = new Set();
    /** @type {ChatError|null} */
    this.end = null;
  }
  /** @param {string} event @param {(data: any, event: string) => void} handler */
  on(event, handler) {
    const handlers = this.handlers.get(event) ?? new Set();
    this.handlers.set(event, handlers.add(handler));
    return () => void handlers.delete(handler);
  }
  /** @param {string} event @param {any} data */
  tell(event, data) {
    for (const reader of this.readers) {
      if (reader.waiting.push({ event, data }) > this.limit) {
        reader.waiting.shift();
        reader.lost += 1;
      }
      reader.news();
    }
    for (const name of [event, "*"]) {
      for (const handler of [...(this.handlers.get(name) ?? [])]) {
        try {
          handler(data, event);
        } catch (error) {
          queueMicrotask(() => {
            throw error; // of the program, which sees it where it sees its errors; the client goes on
          });
        }
      }
    }
  }
  /** @param {ChatError} why */
  close(why) {
    this.end = why;
    for (const reader of this.readers) reader.news();
  }
  /** Listens from the call on, not from the first step. @returns {AsyncGenerator<ChatEvent, void, void>} */
  read() {
    const reader = { waiting: /** @type {ChatEvent[]} */ ([]), lost: 0, news: () => {} };
    this.readers.add(reader);
    return this._steps(reader);
  }
  /** @param {{waiting: ChatEvent[], lost: number, news: () => void}} reader
   * @returns {AsyncGenerator<ChatEvent, void, void>} */
  async *_steps(reader) {
    try {
      for (;;) {
        if (reader.lost > 0) {
          const count = reader.lost;
          reader.lost = 0;
          yield { event: "events.lost", data: { count } };
        }
        const next = reader.waiting.shift();
        if (next !== undefined) {
          yield next;
        } else if (this.end === null) {
          await /** @type {Promise<void>} */ (new Promise((resolve) => (reader.news = resolve)));
        } else {
          if (this.end instanceof ClientClosed) return;
          throw this.end;
        }
      }
    } finally {
      this.readers.delete(reader);
    }
  }
}

// ================================================================ messages of the program

/** Maximum messages without an acknowledgement. */
const OUTBOX = 10000;
/** Maximum messages in flight, of all conversations. */
const IN_FLIGHT = 64;
/** Longest text that is sent, in bytes. A server's own limit is lower; but one that is far too long would break the
 * connection before the refusal, and be tried for ever. */
const MAX_TEXT_BYTES = 64 * 1024;

/**
 * A message that waits for its acknowledgement.
 * @typedef {object} OutgoingMessage
 * @property {string} fp
 * @property {string} to
 * @property {string} text
 * @property {number} writtenAt ms since the epoch, by this machine's clock
 * @property {number} order later ones have higher numbers
 * @property {number} [reply]
 * @property {(string|number)[]|"all"} [mentions]
 * @property {number} [typeu]
 * @property {string[]} [files] ids
 */
/** A message that is stored. @typedef {{conversation: string, seq: number, sentAt: number, fp: string}} Sent */
/** @typedef {{message: OutgoingMessage, stored: Deferred<Sent>, isWritten: boolean}} Entry */

/** The messages to one recipient. */
class Lane {
  constructor() {
    /** @type {Entry[]} */
    this.waiting = [];
    /** Whether the first one is sent and not answered. */
    this.inFlight = false;
    /** Why the server has put the first one off; null: it has not. @type {Refused|null} */
    this.putOff = null;
    this.cancel = () => {};
    this.backoff = new Backoff(500, 5000);
  }
  idle() {
    this.cancel();
    this.cancel = () => {};
    this.inFlight = false;
    this.putOff = null;
  }
}

/** @typedef {(event: string, data: any) => void} Tell */
/** @typedef {{memory: Memory, answer: number, unanswered: () => void, tell: Tell}} SenderUser */

/**
 * Each message is written into the journal, and then sent until it is stored or refused for good. Of one conversation,
 * one is in flight at a time, so that a message that is put off for a moment is not overtaken.
 */
class Sender {
  /** @param {SenderUser} user */
  constructor(user) {
    this.user = user;
    /** @type {Map<string, Lane>} */
    this.lanes = new Map();
    /** @type {Map<string, Entry>} */
    this.messages = new Map();
    this.inFlight = 0;
    this.order = 0;
    /** @type {((message: OutgoingMessage) => void)|null} */
    this.transmit = null;
    /** @type {Deferred<void>[]} */
    this.empty = [];
  }
  /** Of an earlier run, in order. @param {OutgoingMessage} message */
  restore(message) {
    this.order = Math.max(this.order, message.order);
    this._enter({ message, stored: deferred(), isWritten: true });
  }
  /** @param {Omit<OutgoingMessage, "order">} written @returns {Promise<Sent>} */
  add(written) {
    const known = this.messages.get(written.fp);
    if (known !== undefined) {
      if (known.message.to === written.to && known.message.text === written.text) return known.stored.promise;
      throw refusal(Code.FP_REUSED, "this fp is already used for another message", written.fp);
    }
    if (this.messages.size >= OUTBOX) throw new Overloaded("too many messages wait for their acknowledgement");
    const message = { ...written, order: (this.order += 1) };
    const entry = { message, stored: /** @type {Deferred<Sent>} */ (deferred()), isWritten: false };
    const lane = this._enter(entry);
    this.user.memory.wrote(message).then(() => {
      entry.isWritten = true;
      if (this.messages.get(message.fp) !== entry) return;
      this.user.tell("outbox", { state: "waiting", message });
      this._advance(lane);
    });
    return entry.stored.promise;
  }
  /** @param {Entry} entry */
  _enter(entry) {
    const { fp, to } = entry.message;
    this.messages.set(fp, entry);
    const lane = this.lanes.get(to) ?? new Lane();
    this.lanes.set(to, lane);
    lane.waiting.push(entry);
    return lane;
  }
  /** @param {(message: OutgoingMessage) => void} transmit */
  start(transmit) {
    this.transmit = transmit;
    this._next();
  }
  stop() {
    this.transmit = null;
    this.inFlight = 0;
    for (const lane of this.lanes.values()) lane.idle();
  }
  /** @param {string} fp @param {number} seq @param {number} sentAt */
  stored(fp, seq, sentAt) {
    const entry = this._settle(fp);
    if (entry === undefined) return;
    const { message, stored } = entry;
    const sent = { conversation: message.to, fp, seq, sentAt };
    stored.resolve(sent);
    this.user.tell("outbox", { state: "stored", message, sent });
  }
  /** @param {string} fp @param {number} code @param {string} text */
  refused(fp, code, text) {
    const entry = this.messages.get(fp);
    if (entry === undefined) return;
    const error = refusal(code, text, fp);
    if (error.temporary) {
      this._tryLater(entry, error);
      return;
    }
    this._settle(fp);
    entry.stored.reject(error);
    this.user.tell("outbox", { state: "refused", message: entry.message, error });
  }
  /** @param {Entry} entry @param {Refused} error */
  _tryLater(entry, error) {
    const lane = this.lanes.get(entry.message.to);
    if (lane === undefined || lane.waiting[0] !== entry || !lane.inFlight) return;
    lane.idle();
    this.inFlight -= 1;
    lane.putOff = error;
    lane.cancel = clock.after(lane.backoff.next(), () => {
      lane.idle();
      this._advance(lane);
    });
  }
  /** Forget a message that the server has put off; the refusal. undefined: it may be stored. @param {string} fp */
  withdraw(fp) {
    const entry = this.messages.get(fp);
    const lane = entry && this.lanes.get(entry.message.to);
    if (!entry || !lane?.putOff || lane.waiting[0] !== entry) return undefined;
    const error = lane.putOff;
    this._settle(fp);
    this.user.tell("outbox", { state: "refused", message: entry.message, error });
    return error;
  }
  /** @param {ChatError} why */
  end(why) {
    this.stop();
    for (const { stored } of this.messages.values()) stored.reject(why);
    this._tellEmpty();
  }
  whenEmpty() {
    const empty = /** @type {Deferred<void>} */ (deferred());
    this.empty.push(empty);
    if (this.messages.size === 0) this._tellEmpty();
    return empty.promise;
  }
  _tellEmpty() {
    this.empty.splice(0).forEach((empty) => empty.resolve());
  }
  /** @param {string} fp */
  _settle(fp) {
    const entry = this.messages.get(fp);
    if (entry === undefined) return undefined;
    this.messages.delete(fp);
    this.user.memory.settled(fp);
    const lane = /** @type {Lane} */ (this.lanes.get(entry.message.to));
    if (lane.waiting[0] === entry) {
      if (lane.inFlight) this.inFlight -= 1;
      lane.idle();
      lane.waiting.shift();
      lane.backoff.reset();
    } else {
      lane.waiting.splice(lane.waiting.indexOf(entry), 1);
    }
    if (lane.waiting.length === 0) this.lanes.delete(entry.message.to);
    if (this.messages.size === 0) this._tellEmpty();
    this._next();
    return entry;
  }
  _next() {
    for (const lane of this.lanes.values()) {
      if (this.inFlight >= IN_FLIGHT) return;
      this._advance(lane);
    }
  }
  /** @param {Lane} lane */
  _advance(lane) {
    const entry = lane.waiting[0];
    if (entry === undefined || !entry.isWritten || this.transmit === null || this.inFlight >= IN_FLIGHT) return;
    if (lane.inFlight || lane.putOff !== null) return;
    lane.inFlight = true;
    this.inFlight += 1;
    lane.cancel = clock.after(this.user.answer, () => this.user.unanswered());
    this.transmit(entry.message);
  }
}

// ================================================================ requests

/** Maximum requests without an answer. */
const REQUESTS = 256;
/** Maximum pages that are read of one list. */
const PAGES = 50;

/** A request that waits for its answer. @typedef {{packet: any, answer: Deferred<any>}} PendingRequest */

/**
 * Each request is asked until it is answered, over as many connections as that takes. One that is sent again has the
 * same fp: the server carries it out once, and gives its first answer again.
 */
class Requests {
  /** @param {number} limit ms for an answer @param {(text: string, fp: string) => any} pack a text for the server */
  constructor(limit, pack) {
    this.limit = limit;
    this.pack = pack;
    /** @type {Map<number, PendingRequest>} */
    this.pending = new Map();
    this.numbers = 0;
    /** @type {((packet: any) => void)|null} */
    this.send = null;
    /** Why there will be no connection. @type {ChatError|null} */
    this.over = null;
  }
  /** @param {(packet: any) => void} send */
  start(send) {
    this.send = send;
    for (const { packet } of this.pending.values()) send(packet);
  }
  stop() {
    this.send = null;
  }
  /** @param {ChatError} why */
  end(why) {
    this.send = null;
    this.over = why;
    for (const { answer } of this.pending.values()) answer.reject(why);
  }
  /** @param {number} ref @param {any} content */
  answered(ref, content) {
    this.pending.get(ref)?.answer.resolve(content);
  }
  /** The server did not read the request as one. false: it is none of these.
   * @param {string} fp @param {number} code @param {string} text */
  refused(fp, code, text) {
    for (const { packet, answer } of this.pending.values()) {
      if (packet.fp !== fp) continue;
      answer.resolve({ ok: false, error: { code, text } });
      return true;
    }
    return false;
  }
  /** @param {string} op @param {Record<string, any>} [args] @returns {Promise<any>} */
  async ask(op, args = {}) {
    const until = Date.now() + this.limit;
    const backoff = new Backoff(300, 3000);
    for (;;) {
      const answer = await this._once(op, args, Math.max(0, until - Date.now()));
      if (answer.ok) return answer.result ?? {};
      const { code = Code.UNKNOWN, text = "" } = answer.error ?? {};
      const wait = backoff.next();
      if (!PUT_OFF.has(code) || Date.now() + wait > until) throw refusal(code, text);
      await pause(wait);
    }
  }
  /** All rows of a list that the server gives in pages.
   * @param {string} op @param {string} name @param {Record<string, any>} args @param {(row: any) => number} idOf
   * @returns {Promise<any[]>} */
  async rows(op, name, args, idOf) {
    const found = [];
    for (let page = 0; page < PAGES; page += 1) {
      const after = found.length > 0 ? exactly(idOf(found.at(-1))) : undefined;
      const { [name]: rows = [], more = false } = await this.ask(op, { ...args, after });
      found.push(...rows);
      if (!more || rows.length === 0) break;
    }
    return found;
  }
  /** @param {string} op @param {Record<string, any>} args @param {number} limit ms @returns {Promise<any>} */
  async _once(op, args, limit) {
    if (this.over !== null) throw this.over;
    if (this.pending.size >= REQUESTS) throw new Overloaded("too many requests wait for an answer");
    const ref = (this.numbers += 1);
    const text = toJson({ op, ref, ...args });
    if (text.length > MAX_TEXT_BYTES) throw refusal(Code.TOO_LONG, `${op}: the request is too long`);
    const packet = this.pack(text, newFp());
    const answer = /** @type {Deferred<any>} */ (deferred());
    this.pending.set(ref, { packet, answer });
    this.send?.(packet);
    try {
      return await within(limit, answer.promise, () =>
        new NoAnswer(`no answer to ${op}: whether this was done is not known`));
    } finally {
      this.pending.delete(ref);
    }
  }
}

// ================================================================ the session

/** @typedef {"connecting"|"live"|"waiting"|"closed"} StateName */
/** connecting: a connection is being made, or the login is under way. live: logged in. waiting: between two attempts.
 * closed: over, closed by the program or ended by the server. */
export const State = Object.freeze({
  CONNECTING: /** @type {const} */ ("connecting"), LIVE: /** @type {const} */ ("live"),
  WAITING: /** @type {const} */ ("waiting"), CLOSED: /** @type {const} */ ("closed"),
});
/** @type {Record<StateName, StateName[]>} */
const TRANSITIONS = {
  connecting: ["live", "waiting", "closed"],
  live: ["waiting", "closed"],
  waiting: ["connecting", "closed"],
  closed: [],
};

const Type = Object.freeze({
  LOGIN: 0, KEEP_ALIVE: 1, DATA: 2, LOGOUT: 3, ACKNOWLEDGE: 4, LOGIN_ANSWER: 50, ERROR: 52, KICKED: 54,
});
/** Close codes after which the client does not come back, as a packet of type 54 may have been lost.
 * @type {Record<number, "duplicate"|"admin"|"expired">} */
const FINAL = { 4001: "duplicate", 4002: "admin", 4008: "duplicate", 4009: "admin", 4011: "expired" };
/** The reason of a kick, which stock clients are told as one by an administrator. */
const EXPIRED = "the login token has expired";
/** The close code after too many attempts to log in. */
const TOO_MANY_ATTEMPTS = 4010;
/** The pause after them. */
const AFTER_MANY_ATTEMPTS_MS = 30000;
/** The longest wait for the server to close after a logout. */
const LINGER_MS = 2000;
/** WebSocket.OPEN */
const OPEN = 1;

/** A user. @typedef {{id: number, name: string}} User */

/** One login: a connection after the other, and nothing lost or given twice in between. */
class Session {
  /** @param {string} url @param {string} name @param {Options} options */
  constructor(url, name, options) {
    const { password = "", token = "", inboxMessages = 4096, feedEvents = 1000, timing = {} } = options;
    this.url = url;
    this.options = options;
    this.secret = password || token;
    /** @type {Timing} */
    this.timing = { ...TIMING, ...timing };
    const socketClass = options.WebSocket ?? globalThis.WebSocket;
    if (typeof socketClass !== "function") {
      throw new TypeError("there is no WebSocket here: give that of the package ws as options.WebSocket");
    }
    /** @type {SocketClass} */
    this.WebSocket = socketClass;
    /** @type {User} */
    this.me = { id: 0, name };
    /** @type {string[]} */
    this.features = [];
    /** @type {StateName} */
    this.state = State.CONNECTING;
    this.feed = new Feed(feedEvents);
    this.memory = new Memory(options.journal ?? null, (text) => this.tell("journal.lost", { text }));
    this.inbox = new Inbox(inboxMessages, (key, message) => this._taken(key, message));
    this.inbox.onRoom = () => this._wake();
    this.sender = new Sender({
      memory: this.memory,
      answer: this.timing.answer,
      unanswered: () => this._drop("a message was not answered"),
      tell: (event, data) => this.tell(event, data),
    });
    this.requests = new Requests(this.timing.answer, (text, fp) => this._data("0", text, fp));
    this.requests.over = new ClientClosed("the client is not open");
    this.onLive = () => {};
    /** Why the session has ended; null while it lasts. @type {ChatError|null} */
    this.ended = this.requests.over;
    /** Set once, by open(). @type {Deferred<void>|null} */
    this.opened = null;
    /** Resolved when the messages of an earlier run are in the outbox. */
    this.loaded = /** @type {Deferred<void>} */ (deferred());
    /** How the messages in the inbox are acknowledged. @type {Map<string, any>} */
    this.acks = new Map();
    /** @type {Set<string>} */
    this.recent = new Set();
    /** @type {Socket|null} */
    this.socket = null;
    /** When the first sign of life was sent that nothing has come after; 0 = there is none. */
    this.askedAt = 0;
    this.firstLoginTime = 0;
    this.liveAt = 0;
    /** No connection is made before this time. */
    this.holdUntil = 0;
    /** Logins refused in a row although the secret was fresh. */
    this.freshRefusals = 0;
    /** Why the last connection ended. */
    this.why = "no answer";
    /** Cancel a timer, by its name. @type {Map<string, () => void>} */
    this.timers = new Map();
    this.backoff = new Backoff(this.timing.backoffFirst, this.timing.backoffMost);
    this.unlisten = () => {};
  }

  /** @param {string} event @param {any} data */
  tell(event, data) {
    this.feed.tell(event, data);
  }

  // ------------------------------------------------------------ opening and closing

  async open() {
    if (this.opened !== null) throw new ClientClosed("a client is opened once: make a new one");
    const opened = (this.opened = deferred());
    this.ended = this.requests.over = null;
    if (this.options.timers !== undefined) clock.watch(this.options.timers);
    this._listen();
    try {
      const taken = (/** @type {string} */ why) => this.end(new Kicked(why, "duplicate"));
      const { pending, tooOld } = await this.memory.load(this.me.name, taken);
      for (const message of pending) this.sender.restore(message);
      this.loaded.resolve();
      for (const message of tooOld) {
        const error = new NotAcknowledged("too old to be sent again: whether it was stored is not known", message.fp);
        this.tell("outbox", { state: "refused", message, error });
      }
      this._connect();
      const late = () => new Unreachable(`cannot log in at ${this.url}: ${this.why}`);
      await within(this.timing.enter, opened.promise, late);
    } catch (error) {
      const why = error instanceof ChatError ? error : new SessionEnded(`a bug in the client: ${error}`);
      this.end(why);
      await this.memory.close();
      throw why;
    }
  }

  /** @param {boolean} settle */
  async close(settle) {
    if (settle && this.ended === null) {
      await this.inbox.finish();
      await atMost(this.timing.settle, this.sender.whenEmpty());
    }
    const { socket } = this;
    if (this.state === State.LIVE) this._send({ type: Type.LOGOUT, from: this.me.name, to: "0" });
    this.end(new ClientClosed("the client is closed"));
    if (socket !== null) await atMost(LINGER_MS, new Promise((resolve) => (socket.onclose = resolve)));
    await this.memory.close();
  }

  /** It does not come back. @param {ChatError} why */
  end(why) {
    if (this.ended !== null) return;
    this.ended = why;
    this._cancelTimers();
    this.unlisten();
    this.sender.end(why);
    this.requests.end(why);
    this.inbox.close(why);
    this.opened?.reject(why);
    this.loaded.reject(why);
    this._abandon();
    this._enter(State.CLOSED, why.message);
    this.feed.close(why);
    this.memory.close().catch(() => {});
  }

  /** @param {StateName} state @param {string} [why] */
  _enter(state, why = "") {
    if (state === this.state || this.state === State.CLOSED) return;
    if (!TRANSITIONS[this.state].includes(state)) throw new Error(`${this.state} -> ${state}`);
    this.state = state;
    this.tell("state", { state, why });
  }

  /** The browser tells when the network or the page comes back. */
  _listen() {
    if (typeof globalThis.addEventListener !== "function") return;
    const wake = () => this._wake();
    const probe = () => this._probe();
    const shown = () => void (document.hidden || this._wake());
    globalThis.addEventListener("online", wake);
    globalThis.addEventListener("offline", probe);
    globalThis.addEventListener("pageshow", wake);
    if (typeof document !== "undefined") document.addEventListener("visibilitychange", shown);
    this.unlisten = () => {
      globalThis.removeEventListener("online", wake);
      globalThis.removeEventListener("offline", probe);
      globalThis.removeEventListener("pageshow", wake);
      if (typeof document !== "undefined") document.removeEventListener("visibilitychange", shown);
    };
  }

  // ------------------------------------------------------------ connections

  _connect() {
    if (this.ended !== null) return;
    this._enter(State.CONNECTING);
    let socket;
    try {
      socket = new this.WebSocket(this.url, "mobileimsdk");
    } catch (error) {
      this.end(new Unreachable(`cannot connect to ${this.url}: ${error instanceof Error ? error.message : error}`));
      return;
    }
    this.socket = socket;
    this._after("login", this.timing.connect, () => this._drop("no connection in time"));
    socket.onopen = () => void this._logIn(socket);
    socket.onmessage = ({ data }) => void (socket === this.socket && this._take(parsed(data)));
    socket.onclose = ({ code, reason }) => void (socket === this.socket && this._detached(code, String(reason ?? "")));
    socket.onerror = () => {}; // onclose follows, and says as much
  }

  /** @param {Socket} socket */
  async _logIn(socket) {
    this._after("login", this.timing.answer, () => this._drop("no answer to the login"));
    let secret;
    try {
      secret = typeof this.secret === "string" ? this.secret : await this.secret();
    } catch (error) {
      if (socket === this.socket) this._drop(`no token: ${error instanceof Error ? error.message : error}`);
      return;
    }
    if (socket !== this.socket) return;
    const features = this.options.features ?? ["seq", "typing"];
    const content = {
      loginUserId: this.me.name,
      loginToken: secret,
      firstLoginTime: this.firstLoginTime,
      extra: toJson({ ...this.options.extra, chatd: { features } }),
    };
    this._send({ type: Type.LOGIN, from: this.me.name, to: "0", dataContent: toJson(content) });
  }

  /** Forget the connection. */
  _abandon() {
    const { socket } = this;
    this.socket = null;
    if (socket === null) return;
    socket.onopen = socket.onmessage = socket.onclose = null; // not onerror: the package ws throws without it
    socket.close();
  }

  /** The connection is of no use any more. @param {string} why */
  _drop(why) {
    if (this.socket === null) return;
    this._abandon();
    this.why = why;
    this._detached(0, "");
  }

  /** @param {number} code of the close frame, 1006 = there was none, 0 = dropped @param {string} reason */
  _detached(code, reason) {
    const wasLive = this.state === State.LIVE;
    this.socket = null;
    this.askedAt = 0;
    this._cancelTimers();
    this.sender.stop();
    this.requests.stop();
    if (this.ended !== null) return;
    if (code !== 0) this.why = reason || (code === 1006 ? "the connection broke" : `closed with ${code}`);
    if (code in FINAL) {
      this._kicked(FINAL[code], this.why);
      if (this.ended !== null) return;
    }
    if (wasLive && Date.now() - this.liveAt > this.timing.steady) this.backoff.reset();
    this._enter(State.WAITING, this.why);
    if (code === TOO_MANY_ATTEMPTS) this.holdUntil = Date.now() + AFTER_MANY_ATTEMPTS_MS;
    this._after("connect", Math.max(this.backoff.next(), this.holdUntil - Date.now()), () => this._again());
  }

  /** After the pause, once there is room for messages. */
  _again() {
    if (this.state !== State.WAITING || this.inbox.full) return;
    this._cancelTimers();
    this._connect();
  }

  /** The network or the page is back, or there is room for messages again. */
  _wake() {
    if (this.state !== State.WAITING) this._probe();
    else if (Date.now() >= this.holdUntil) this._again();
  }

  /** Whether the connection still works, which after a sleep or a change of networks nobody knows. */
  _probe() {
    if (this.state !== State.LIVE) return;
    this._ask();
    this._after("silence", this.timing.probe, () => this._drop("the server is silent"));
  }

  /** @param {string} name @param {number} ms @param {() => void} work */
  _after(name, ms, work) {
    this.timers.get(name)?.();
    this.timers.set(name, clock.after(ms, work));
  }

  _cancelTimers() {
    for (const cancel of this.timers.values()) cancel();
    this.timers.clear();
  }

  /** A sign of life. Silence is counted from the first one without an answer, not from what was heard last: the timers
   * of a hidden page may be a minute late. */
  _ask() {
    if (this.askedAt === 0) {
      this.askedAt = Date.now();
      this._after("silence", this.timing.answer, () => this._drop("the server is silent"));
    }
    this._send({ type: Type.KEEP_ALIVE, from: this.me.name, to: "0", dataContent: "{}" });
    this._after("life", this.timing.keepAlive, () => this._ask());
  }

  /** Now or never: whatever must not be lost is sent again at the next login. @param {any} packet */
  _send(packet) {
    if (this.socket?.readyState === OPEN) this.socket.send(toJson(packet));
  }

  /** @param {string} to @param {string} text @param {string} fp */
  _data(to, text, fp) {
    return { type: Type.DATA, from: this.me.name, to, dataContent: text, fp, QoS: true };
  }

  // ------------------------------------------------------------ what the server says

  /** @param {any} packet */
  _take(packet) {
    if (this.askedAt !== 0) {
      this.askedAt = 0;
      this.timers.get("silence")?.();
    }
    const content = packet.dataContent ?? "";
    switch (packet.type) {
      case Type.DATA:
        this._received(packet);
        break;
      case Type.ACKNOWLEDGE:
        this.sender.stored(content, packet.seq ?? 0, Math.max(packet.sm ?? 0, 0));
        break;
      case Type.LOGIN_ANSWER:
        this._loginAnswered(parsed(content));
        break;
      case Type.ERROR:
        this._refusal(parsed(content));
        break;
      case Type.KICKED: {
        const { code, reason = "ended by the server" } = parsed(content);
        this._kicked(code === 1 ? "duplicate" : reason === EXPIRED ? "expired" : "admin", reason);
        break;
      }
    }
  }

  /** @param {any} answer */
  _loginAnswered({ code, firstLoginTime = 0, chatd = {} }) {
    if (this.state !== State.CONNECTING) return;
    if (code !== 0) {
      this._loginRefused(code);
      return;
    }
    this._cancelTimers();
    this.freshRefusals = 0;
    this.firstLoginTime = firstLoginTime;
    this.features = chatd.features ?? [];
    this.me = { id: chatd.id ?? 0, name: this.me.name };
    this.liveAt = Date.now();
    this._enter(State.LIVE);
    this._ask();
    this.sender.start(({ to, text, fp, reply, mentions, typeu, files }) =>
      this._send({ ...this._data(to, text, fp), reply, mentions, typeu, files }));
    this.requests.start((packet) => this._send(packet));
    this.onLive();
    this.opened?.resolve(undefined);
  }

  /** After a temporary refusal the next connection tries again. So it does, once, where the secret is asked for at each
   * login: this one may have expired on its way. @param {number} code */
  _loginRefused(code) {
    const name = Object.entries(Code).find(([, one]) => one === code)?.[0].replaceAll("_", " ").toLowerCase();
    const wrong = "unknown user, wrong password, or a token that is not valid";
    const why = `the login is refused: ${code === Code.BAD_CREDENTIALS ? wrong : name ?? code}`;
    const fresh = typeof this.secret !== "string" && (code === Code.BAD_CREDENTIALS || code === Code.TOKEN_EXPIRED);
    const again = fresh && this.freshRefusals === 0;
    if (code === Code.TOO_MANY_ATTEMPTS) this.holdUntil = Date.now() + AFTER_MANY_ATTEMPTS_MS;
    if (TEMPORARY.has(code) || again) {
      if (fresh) this.freshRefusals += 1;
      this._drop(why);
    } else {
      this.end(new LoginRefused(`${this.me.name} cannot log in: ${why}`, code));
    }
  }

  /** @param {"duplicate"|"admin"|"expired"} why @param {string} text */
  _kicked(why, text) {
    if (why === "expired" && typeof this.secret !== "string") this._drop(text); // the next login has a new token
    else this.end(new Kicked(text, why));
  }

  /** @param {any} refused */
  _refusal({ errorCode, errorMsg = "" }) {
    if (errorCode === Code.NOT_LOGGED_IN) {
      this._drop("not logged in"); // the server and we disagree: reconnect, which loses nothing
      return;
    }
    const { fp = "", text = errorMsg } = parsed(errorMsg);
    if (fp && !this.requests.refused(fp, errorCode, text)) this.sender.refused(fp, errorCode, text);
  }

  /** @param {any} packet */
  _received(packet) {
    const { from, to = "", fp = "", QoS = false } = packet;
    const ack = QoS && fp ? { type: Type.ACKNOWLEDGE, from: to, to: from, dataContent: fp } : null;
    const content = from === "0" && !packet.seq ? parsed(packet.dataContent) : {};
    if (typeof content.event === "string" || typeof content.ok === "boolean") {
      if (ack !== null) this._send(ack);
      if (fp && this._isCopy(fp)) return;
      if (typeof content.ok === "boolean") this.requests.answered(content.ref, content);
      else this._notice(content);
      return;
    }
    this._message(packet, ack);
  }

  /** @param {any} notice */
  _notice(notice) {
    if (notice.event === "draining") this.holdUntil = Date.now() + (notice.retry_after_ms ?? 0);
    this.tell(notice.event, notice);
  }

  /** @param {any} packet @param {any} ack null: none is wanted */
  _message(packet, ack) {
    const { from: sender, to = "", fp = "", seq = 0, conv: conversationId = 0, sm = 0, typeu = -1 } = packet;
    const { reply = 0, mentions = [], version = 0, state = "sent", files = [], files_cut: filesCut = false } = packet;
    const message = {
      conversation: to.startsWith("#") ? to : sender, conversationId, sender, text: packet.dataContent ?? "", seq,
      sentAt: Math.max(sm, 0), fp, typeu, reply, mentions, version, state, files, filesCut,
    };
    const key = seq ? `${conversationId} ${seq}` : `${sender} ${fp}`;
    if (this.inbox.holds(key)) this.acks.set(key, ack);
    else if (seq ? this.memory.seen.has(message) : fp && this.recent.has(fp)) this._acknowledge(ack);
    else if (this.inbox.put(key, message)) this.acks.set(key, ack);
    else this._drop("messages come faster than they are taken");
  }

  /** Remembered first, acknowledged second: if the acknowledgement is lost, the message is not given again.
   * @param {string} key @param {Message} message */
  async _taken(key, message) {
    if (message.seq) await this.memory.took(message);
    else if (message.fp) this._isCopy(message.fp);
    const ack = this.acks.get(key);
    this.acks.delete(key);
    this._acknowledge(ack);
  }

  /** @param {any} ack */
  _acknowledge(ack) {
    if (ack && this.state === State.LIVE) this._send(ack);
  }

  /** Whether it came before; now it has. @param {string} fp */
  _isCopy(fp) {
    if (this.recent.has(fp)) return true;
    this.recent.add(fp);
    if (this.recent.size > RECENT) this.recent.delete(/** @type {string} */ (this.recent.values().next().value));
    return false;
  }
}

// ================================================================ operations, by subject

/** Each rejects with Refused, NoAnswer, Overloaded and SessionEnded. */

/** A user, named by name or number. @typedef {string|number} Who */
/** A user's presence. last_seen: ms since the epoch, 0 or null = not known
 * @typedef {{id: number, name: string, online: boolean, last_seen?: number|null}} Presence */
/** A member of a group. muted, until_ms: for the owner and the admins
 * @typedef {{id: number, name: string, role: Role, online: boolean, muted?: boolean, until_ms?: number|null}} Member */
/** @typedef {{id: number, name: string, description: string}} Group */
/** @typedef {"owner"|"admin"|"member"} Role */
/** @typedef {{join?: "open"|"approval"|"invite", history?: "all"|"joining", announcements?: boolean}} Rules */
/** The rules of a group, and the user's own place in it; the counts are for the owner and the admins.
 * @typedef {Required<Rules> & {group: Group, members: number, role: Role, muted: boolean, until_ms: number|null,
 *   requests?: number, invitations?: number, bans?: number}} GroupDetails */
/** @typedef {{user: User, by?: User, at_ms: number}} ListEntry */
/** @typedef {{group: Group, by?: User, at_ms: number}} Invitation */
/** @typedef {"everybody"|"contacts"|"friends"|"nobody"|"default"} Audience */
/** @typedef {{write: Audience, ask: Audience, see: Audience, add: Audience}} Choices */
/** @typedef {{nickname?: string, avatar?: string, status?: string, about?: string}} ProfileFields */
/** A conversation. unread: messages of others after read; there are more if unread_more. mentioned: the seqs of those
 * that mention the user. user: the other one's number; none for a group. changes: the number of the last change.
 * @typedef {{with: string, id: ConversationId, user?: number, last: number, read: number, unread: number,
 *   delivered?: number, other_read?: number, unread_more?: boolean, mentioned?: number[], changes?: number}} Head */
/** state: sent, edited, recalled, removed, erased or expired; in the last four, the text is gone. sm: ms since the
 * epoch
 * @typedef {{seq: number, from: string, fp: string, text: string, typeu: number, sm: number, state?: string,
 *   version?: number, reply?: number, mentions?: number[]|"all", cut?: number, files?: Attachment[]}} PastMessage */
/** A message that was changed, as it is now; without seq: one that the user cannot read.
 * @typedef {Partial<PastMessage> & {with: string, change: number}} PastChange */
/** @typedef {{seq: number, version: number, state: string, change: number}} ChangeMade */
/** @typedef {{wire: string, since: number, peer: string, this: boolean}} OwnSession */

export class Friends {
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** Friends, with their presence. @returns {Promise<Presence[]>} */
  async list() {
    return (await this.#ask("friend.list")).friends ?? [];
  }
  /** Users who ask to become friends. @returns {Promise<User[]>} */
  async requests() {
    return (await this.#ask("friend.list")).requests ?? [];
  }
  /** Ask a user; friends true: the other had asked already. @param {Who} user
   * @returns {Promise<{user: User, friends: boolean}>} */
  request(user) {
    return this.#ask("friend.request", { user });
  }
  /** @param {Who} user @returns {Promise<User>} */
  async accept(user) {
    return (await this.#ask("friend.accept", { user })).user;
  }
  /** @param {Who} user @returns {Promise<User>} */
  async refuse(user) {
    return (await this.#ask("friend.refuse", { user })).user;
  }
  /** End a friendship, or withdraw a request. @param {Who} user @returns {Promise<User>} */
  async remove(user) {
    return (await this.#ask("friend.remove", { user })).user;
  }
}

export class Blocks {
  #requests;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#requests = requests;
  }
  /** @returns {Promise<User[]>} */
  list() {
    return this.#requests.rows("block.list", "users", {}, (user) => user.id);
  }
  /** Neither can write to the other any more. The user is not told; a friendship ends.
   * @param {Who} user @returns {Promise<User>} */
  async add(user) {
    return (await this.#requests.ask("block", { user })).user;
  }
  /** @param {Who} user @returns {Promise<User>} */
  async remove(user) {
    return (await this.#requests.ask("unblock", { user })).user;
  }
}

export class Privacy {
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** The user's choices, and what applies where one is "default".
   * @returns {Promise<{privacy: Choices, defaults: Choices}>} */
  get() {
    return this.#ask("privacy.get");
  }
  /** Who may write, ask to become friends, see profile and presence, add to groups.
   * @param {Partial<Choices>} choices @returns {Promise<Choices>} */
  async set(choices) {
    return (await this.#ask("privacy.set", choices)).privacy;
  }
}

export class Profiles {
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** Without a user, one's own. @param {Who} [user] @returns {Promise<{user: User, profile: ProfileFields}>} */
  get(user) {
    return this.#ask("profile.get", { user });
  }
  /** @param {ProfileFields} fields "" empties one @returns {Promise<ProfileFields>} as it is now */
  async set(fields) {
    return (await this.#ask("profile.set", fields)).profile;
  }
}

/** Users of one request about presence. */
const WATCHED = 100;

/** The users that are watched are watched again after every login. */
export class Presences {
  #ask;
  /** @type {Set<Who>} */
  #watched = new Set();
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** Whether users are online, and when they were last seen. @param {Who[]} users @returns {Promise<Presence[]>} */
  get(users) {
    return this.#all("presence.get", users);
  }
  /** Be told of these users with the event "presence". Their presence now.
   * @param {Who[]} users @returns {Promise<Presence[]>} */
  async watch(users) {
    const found = await this.#all("presence.subscribe", users);
    users.forEach((user) => this.#watched.add(user));
    return found;
  }
  /** After a login. Users who do not allow it any more are not watched. What changed meanwhile is told as events.
   * @param {(notice: any) => void} tell @internal */
  async watchAgain(tell) {
    const found = await this.#all("presence.subscribe", [...this.#watched]).catch(() => []);
    for (const { id, name, online } of found) tell({ event: "presence", user: { id, name }, online });
  }
  /** @param {string} op @param {Who[]} users @returns {Promise<Presence[]>} */
  async #all(op, users) {
    const found = [];
    for (let at = 0; at < users.length; at += WATCHED) {
      found.push(...((await this.#ask(op, { users: users.slice(at, at + WATCHED) })).users ?? []));
    }
    return found;
  }
}

/** A group is named by its number. */
export class Groups {
  #requests;
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#requests = requests;
    this.#ask = requests.ask.bind(requests);
  }
  /** The user's groups. @returns {Promise<Group[]>} */
  async list() {
    return (await this.#ask("group.list")).groups ?? [];
  }
  /** The user becomes its owner. What is not given is the server's choice.
   * @param {string} name @param {Rules & {description?: string}} [rules] @returns {Promise<Group>} */
  async create(name, rules = {}) {
    return (await this.#ask("group.create", { name, ...rules })).group;
  }
  /** Join, accept an invitation, or ask to join; joined false: the owner or an admin decides.
   * @param {number} group @returns {Promise<{group: Group, joined: boolean}>} */
  join(group) {
    return this.#ask("group.join", { group });
  }
  /** @param {number} group @returns {Promise<{owner: number|null, ended: boolean}>} */
  leave(group) {
    return this.#ask("group.leave", { group });
  }
  /** The user's open invitations. @returns {Promise<Invitation[]>} */
  invitations() {
    return this.#requests.rows("group.invitations", "invitations", {}, (one) => one.group.id);
  }
  /** Decline an invitation, or take back a request to join. @param {number} group @returns {Promise<void>} */
  async decline(group) {
    await this.#ask("group.decline", { group });
  }
  /** Its rules, and the user's own place in it. @param {number} group @returns {Promise<GroupDetails>} */
  get(group) {
    return this.#ask("group.get", { group });
  }
  /** @param {number} group @returns {Promise<Member[]>} */
  members(group) {
    return this.#requests.rows("group.members", "members", { group, limit: 200 }, (one) => one.id);
  }
  /** @param {number} group @param {string} name @param {string} [description] @returns {Promise<Group>} */
  async rename(group, name, description) {
    return (await this.#ask("group.rename", { group, name, description })).group;
  }
  /** Change how it is joined, who reads its past, who writes. @param {number} group @param {Rules} rules
   * @returns {Promise<Required<Rules>>} */
  set(group, rules) {
    return this.#ask("group.set", { group, ...rules });
  }
  /** End it for all its members. @param {number} group @returns {Promise<void>} */
  async dissolve(group) {
    await this.#ask("group.dissolve", { group });
  }
  /** joined: the user had asked, and is a member now.
   * @param {number} group @param {Who} user @returns {Promise<{user: User, joined: boolean}>} */
  invite(group, user) {
    return this.#ask("group.invite", { group, user });
  }
  /** joined false: the user does not accept that, and is invited.
   * @param {number} group @param {Who} user @returns {Promise<{user: User, joined: boolean}>} */
  add(group, user) {
    return this.#ask("group.add", { group, user });
  }
  /** Who asks to join. @param {number} group @returns {Promise<ListEntry[]>} */
  requests(group) {
    return this.#requests.rows("group.requests", "requests", { group }, (one) => one.user.id);
  }
  /** @param {number} group @param {Who} user @returns {Promise<{user: User, joined: boolean}>} */
  approve(group, user) {
    return this.#ask("group.approve", { group, user });
  }
  /** @param {number} group @param {Who} user */
  reject(group, user) {
    return this.#ofUser("group.reject", { group, user });
  }
  /** Remove a member, who is banned with it. @param {number} group @param {Who} user */
  kick(group, user) {
    return this.#ofUser("group.kick", { group, user });
  }
  /** @param {number} group @param {Who} user */
  ban(group, user) {
    return this.#ofUser("group.ban", { group, user });
  }
  /** @param {number} group @param {Who} user */
  unban(group, user) {
    return this.#ofUser("group.unban", { group, user });
  }
  /** @param {number} group @returns {Promise<ListEntry[]>} */
  bans(group) {
    return this.#requests.rows("group.bans", "bans", { group }, (one) => one.user.id);
  }
  /** Without seconds, until somebody ends it. @param {number} group @param {Who} user @param {number} [seconds] */
  mute(group, user, seconds) {
    return this.#ofUser("group.mute", { group, user, seconds });
  }
  /** @param {number} group @param {Who} user */
  unmute(group, user) {
    return this.#ofUser("group.unmute", { group, user });
  }
  /** Whoever makes another member the owner is an admin then.
   * @param {number} group @param {Who} user @param {Role} role */
  role(group, user, role) {
    return this.#ofUser("group.role", { group, user, role });
  }
  /** @param {string} op @param {Record<string, any>} args @returns {Promise<User>} */
  async #ofUser(op, args) {
    return (await this.#ask(op, args)).user;
  }
}

/** Above every number of a message. */
const NEWEST = 2 ** 52;
/** Messages or conversations that one request asks for. */
const PAGE = 100;

/** A conversation is named as in send(): a user's name, or "#" and the number of a group. */
export class Conversations {
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** The user's conversations, with the last number, the read mark and unread counts of each.
   * @returns {AsyncGenerator<Head, void, void>} */
  async *list() {
    for (let after = /** @type {number|string|bigint} */ (-NEWEST); ; ) {
      const page = await this.#ask("sync", { after, limit: PAGE });
      yield* page.conversations ?? [];
      if (!page.more || !page.conversations?.length) return;
      after = exactly(page.conversations.at(-1).id);
    }
  }
  /** Those with unread messages. @returns {Promise<Head[]>} */
  async unread() {
    const found = [];
    for await (const head of this.list()) if (head.unread) found.push(head);
    return found;
  }
  /** Messages with numbers above after, the oldest first; or below before, the newest first; with neither, from the
   * newest on. Pages are asked for as far as the caller goes.
   * @param {string} conversation @param {{after?: number, before?: number, limit?: number}} [bounds]
   * @returns {AsyncGenerator<PastMessage, void, void>} */
  async *history(conversation, { after, before, limit = Infinity } = {}) {
    let seq = after ?? before ?? NEWEST;
    for (let left = limit; left > 0; ) {
      const bounds = after === undefined ? { before: seq } : { after: seq };
      const page = await this.#ask("history", { with: conversation, limit: Math.min(left, PAGE), ...bounds });
      /** @type {PastMessage[]} */
      const messages = page.messages ?? [];
      for (const message of messages) yield await this.#whole(conversation, message);
      const last = messages.at(-1);
      if (last === undefined) return;
      seq = last.seq;
      left -= messages.length;
      if (after === undefined && seq <= 1) return;
    }
  }
  /** A text that did not fit into a packet is read to its end. @param {string} conversation @param {PastMessage}
   * message
   * @returns {Promise<PastMessage>} */
  async #whole(conversation, message) {
    let { text, cut = 0 } = message;
    while (cut) {
      const more = await this.#ask("history", { with: conversation, after: message.seq - 1, limit: 1, start: cut });
      const [rest] = more.messages ?? [];
      if (rest?.seq !== message.seq) break;
      text += rest.text;
      cut = rest.cut ?? 0;
    }
    return message.cut ? { ...message, text, cut } : message;
  }
  /** Messages that were changed since, as they are now, in the order of their last change.
   * @param {Record<string, number>} known the number of the last known change of each conversation that is asked for; a
   *   conversation's last one is Head.changes
   * @returns {Promise<PastChange[]>} */
  async changes(known) {
    const from = { ...known };
    const found = [];
    for (;;) {
      const { changes = [] } = await this.#ask("sync", { limit: PAGE, changes: from });
      if (changes.length === 0) return found;
      for (const one of changes) from[one.with] = one.change;
      found.push(...changes);
    }
  }
  /** Up to this number. The read mark as it is now.
   * @param {string} conversation @param {number} seq @returns {Promise<number>} */
  async markRead(conversation, seq) {
    return (await this.#ask("read", { with: conversation, seq })).seq;
  }
  /** Delete messages from the user's own history: up to a number, or single ones (at most 100).
   * @param {string} conversation @param {{upTo?: number, seqs?: number[]}} which @returns {Promise<void>} */
  async delete(conversation, { upTo, seqs }) {
    await this.#ask("history.delete", { with: conversation, up_to: upTo, seqs });
  }
  /** Replace the text of a message of one's own.
   * @param {string} conversation @param {number} seq @param {string} text @returns {Promise<ChangeMade>} */
  edit(conversation, seq, text) {
    return this.#ask("message.edit", { with: conversation, seq, text });
  }
  /** Delete the text of a message of one's own, for everybody.
   * @param {string} conversation @param {number} seq @returns {Promise<ChangeMade>} */
  recall(conversation, seq) {
    return this.#ask("message.recall", { with: conversation, seq });
  }
  /** Delete the text of a message of a group, for everybody (owner and admins).
   * @param {number} group @param {number} seq @returns {Promise<ChangeMade>} */
  remove(group, seq) {
    return this.#ask("message.remove", { with: `#${group}`, seq });
  }
  /** Tell the other side that the user is writing; passed on at most once in 2 seconds.
   * @param {string} conversation @returns {Promise<void>} */
  async typing(conversation) {
    await this.#ask("typing", { with: conversation });
  }
}

/** The first piece of a file that is sent, and the largest, in bytes. Pieces get larger while they take less than a
 * second. */
const PIECE_BYTES = 256 * 1024;
const MOST_PIECE_BYTES = 8 * 1024 * 1024;
/** The longest wait for the answer to a piece, ms. */
const PIECE_MS = 120000;
/** Pieces that may fail in a row, although the server is there, before the upload does; a minute and a half. */
const STALLED = 20;

/** max_bytes: of one file, 0 = this server takes none. types: media types, also image/* and *\/*. quota_bytes: of all
 * files of the user, used_bytes of which are taken; 0 = no limit
 * @typedef {{max_bytes: number, types: string[], quota_bytes: number, used_bytes: number, per_message: number}}
 *   FileLimits */
/** How a file is sent.
 * @typedef {object} UploadOptions
 * @property {string} [name] default: that of a File
 * @property {string} [type] its media type; default: that of the Blob
 * @property {string} [file] its id: go on with an upload that was begun, if the server has it still
 * @property {(file: string) => void|Promise<void>} [onbegin] its id is known. Keep it to go on later
 * @property {(sent: number, size: number) => void} [onprogress] in bytes
 * @property {AbortSignal} [signal] gives up: the server forgets what it has of the file
 */
/** An upload as the server knows it. @typedef {{file: string, url: string, base?: string, offset: number}} Upload */

/** A file is uploaded, and then named by one message. Nobody else can have it before. */
export class Files {
  #requests;
  #home;
  /** @param {Requests} requests @param {(said: string|undefined) => string} home of addresses */
  constructor(requests, home) {
    this.#requests = requests;
    this.#home = home;
  }
  /** What may be uploaded. @returns {Promise<FileLimits>} */
  limits() {
    return this.#requests.ask("files.limits");
  }
  /** Upload a file, over as many connections as that takes. It is durable then, and its id can be sent.
   * @param {Blob} content @param {UploadOptions} [options] @returns {Promise<Attachment>} */
  async upload(content, options = {}) {
    const begun = await this.#begin(content, options);
    try {
      await options.onbegin?.(begun.file);
      return await this.#pieces(begun, content, options);
    } catch (error) {
      if (options.signal?.aborted) await this.cancel(begun.file).catch(() => {}); // the server removes it in time
      throw error;
    }
  }
  /** @param {Upload} at @param {Blob} content @param {UploadOptions} options @returns {Promise<Attachment>} */
  async #pieces(at, content, { onprogress, signal }) {
    const backoff = new Backoff(300, 5000);
    for (let size = PIECE_BYTES, failures = 0; ; ) {
      onprogress?.(at.offset, content.size);
      const before = Date.now();
      try {
        if (this.#requests.over !== null) throw this.#requests.over;
        const answer = await this.#append(at, content.slice(at.offset, at.offset + size), signal);
        if (answer.status === 200) return await answer.json();
        at = { ...at, offset: Number(answer.headers.get("Upload-Offset")) };
        if (Date.now() - before < 1000) size = Math.min(2 * size, MOST_PIECE_BYTES);
        failures = 0;
        backoff.reset();
      } catch (error) {
        signal?.throwIfAborted();
        failures += 1;
        if (isFinal(error, failures)) throw error;
        size = PIECE_BYTES;
        await pause(backoff.next());
        at = await this.#ask("files.resume", { file: at.file }, signal);
      }
    }
  }
  /** @param {Blob} content @param {UploadOptions} options @returns {Promise<Upload>} */
  async #begin(content, { name = Reflect.get(content, "name") ?? "file", type = content.type, file, signal }) {
    const plain = type.split(";")[0].trim().toLowerCase();
    const about = { name: wellFormed(name), size: content.size, type: plain || "application/octet-stream" };
    try {
      if (file) return await this.#ask("files.resume", { file }, signal);
    } catch (error) {
      if (!(error instanceof NotFound)) throw error;
    }
    return this.#ask("files.upload", about, signal);
  }
  /** Until the server is there, and has time. What was begun and is not known here is removed by the server.
   * @param {string} op @param {Record<string, any>} args @param {AbortSignal} [signal] @returns {Promise<Upload>} */
  async #ask(op, args, signal) {
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await this.#requests.ask(op, args);
      } catch (error) {
        if (!(error instanceof ChatError && error.temporary)) throw error;
        await pause(1000);
      }
    }
  }
  /** @param {Upload} at @param {Blob} piece @param {AbortSignal} [signal] @returns {Promise<Response>} */
  async #append({ url, base, offset }, piece, signal) {
    const control = new AbortController();
    const stop = () => control.abort();
    signal?.throwIfAborted();
    signal?.addEventListener("abort", stop);
    const cancel = clock.after(PIECE_MS, stop);
    try {
      const answer = await fetch(new URL(url, this.#home(base)), {
        method: "PATCH",
        headers: { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset) },
        body: piece,
        credentials: "omit",
        redirect: "error",
        signal: control.signal,
      });
      if (answer.ok) return answer;
      const { code = Code.UNAVAILABLE, detail = "", title = "" } = parsed(await answer.text());
      throw refusal(code, detail || title);
    } finally {
      cancel();
      signal?.removeEventListener("abort", stop);
    }
  }
  /** Forget an upload, or an uploaded file that was not sent. @param {string} file its id @returns {Promise<void>} */
  async cancel(file) {
    await this.#requests.ask("files.cancel", { file });
  }
  /** Addresses of the files of a message, by their ids, for whoever may read it. expires: ms since the epoch, until
   * when everybody who has one may use it.
   * @param {string} conversation @param {number} seq of the message @param {string} [file] only this one
   * @returns {Promise<{urls: Map<string, string>, expires: number}>} */
  async links(conversation, seq, file) {
    const { links, base, expires } = await this.#requests.ask("files.link", { with: conversation, seq, file });
    const home = this.#home(base);
    /** @type {[string, string][]} */
    const urls = links.map((/** @type {any} */ one) => [one.file, new URL(one.url, home).href]);
    return { urls: new Map(urls), expires: expires * 1000 };
  }
  /** The address of one file. @param {string} conversation @param {number} seq of the message @param {string} file
   * @returns {Promise<string>} */
  async url(conversation, seq, file) {
    return /** @type {string} */ ((await this.links(conversation, seq, file)).urls.get(file));
  }
}

/** Whether an upload ends with this failure. An address that has expired is replaced, and so is an offset that is not
 * the server's. @param {unknown} error @param {number} failures in a row */
function isFinal(error, failures) {
  if (error instanceof SessionEnded || failures > STALLED) return true;
  if (!(error instanceof Refused)) return false; // a connection that broke
  return !error.temporary && error.code !== Code.NOT_ALLOWED && error.code !== Code.OFFSET_MISMATCH;
}

export class Account {
  #ask;
  #passwordChanged;
  /** @param {Requests} requests @param {(password: string) => void} passwordChanged */
  constructor(requests, passwordChanged) {
    this.#ask = requests.ask.bind(requests);
    this.#passwordChanged = passwordChanged;
  }
  /** The user and session of this connection.
   * @returns {Promise<{id: number, name: string, wire: string, since: number}>} */
  whoami() {
    return this.#ask("whoami");
  }
  /** The user's other sessions end. The client logs in with the new one from now on.
   * @param {string} old @param {string} password @returns {Promise<void>} */
  async changePassword(old, password) {
    await this.#ask("password.change", { old, new: password });
    this.#passwordChanged(password);
  }
  /** Where the user is logged in. @returns {Promise<{sessions: OwnSession[], complete: boolean}>} */
  sessions() {
    return this.#ask("session.list");
  }
  /** End the user's session on the other wire; on one's own it is refused.
   * @param {"chatserver"|"mobileimsdk"} wire @returns {Promise<void>} */
  async endSession(wire) {
    await this.#ask("session.kick", { wire });
  }
}

/** Notifications while the user is away. */
export class Push {
  #ask;
  /** @param {Requests} requests */
  constructor(requests) {
    this.#ask = requests.ask.bind(requests);
  }
  /** Whether the server notifies users who are away. key: for PushManager.subscribe() of a browser, "" = no Web Push.
   * gateways: names of others. content: what a notification says.
   * @returns {Promise<{key: string, gateways: string[], content: "none"|"sender"|"text"}>} */
  key() {
    return this.#ask("push.key");
  }
  /** Notify this browser; a repetition renews it.
   * @param {PushSubscriptionJSON} subscription as PushSubscription.toJSON() gives it @returns {Promise<void>} */
  async subscribe({ endpoint, keys }) {
    await this.#ask("push.subscribe", { endpoint, keys: { p256dh: keys?.p256dh, auth: keys?.auth } });
  }
  /** Notify this device through a gateway that a plug-in of the server serves.
   * @param {string} gateway @param {string} token @returns {Promise<void>} */
  async subscribeGateway(gateway, token) {
    await this.#ask("push.subscribe", { gateway, token });
  }
  /** Notify this browser no more. Whether it was subscribed. @param {string} endpoint @returns {Promise<boolean>} */
  async unsubscribe(endpoint) {
    return (await this.#ask("push.unsubscribe", { endpoint })).found;
  }
  /** Notify this device no more. Whether it was subscribed.
   * @param {string} gateway @param {string} token @returns {Promise<boolean>} */
  async unsubscribeGateway(gateway, token) {
    return (await this.#ask("push.unsubscribe", { gateway, token })).found;
  }
  /** Notify none of the user's browsers and devices. Whether there was one. @returns {Promise<boolean>} */
  async unsubscribeAll() {
    return (await this.#ask("push.unsubscribe")).found;
  }
}

// ================================================================ the client

/** The conversation of send(): a user's name or number, or "#" and a group's number. @param {string|number} to */
function placeOf(to) {
  if (typeof to === "number") {
    if (!Number.isSafeInteger(to) || to <= 0) throw new RangeError(`${to} is not the number of a user`);
    return String(to);
  }
  if (typeof to !== "string" || to === "" || to === "0" || to === "-1") throw new RangeError(`${to} is not a user`);
  if (to.startsWith("#") && !/^#[1-9][0-9]*$/.test(to)) throw new RangeError(`${to} is not a group: # and its number`);
  return wellFormed(to);
}

/**
 * What a message may have besides its text.
 * @typedef {object} MessageFields
 * @property {number} [reply] the seq of the message of the same conversation that it answers
 * @property {(string|number)[]|"all"} [mentions] members of the group
 * @property {number} [typeu] the application's own sub-type
 * @property {string[]} [files] ids of files of the user that were uploaded and not sent; the text may be "" then
 * @property {string} [fp] its id, at most 64 characters, by which it is stored once, however often it is sent
 * @property {number} [timeout] ms, in place of timing.send; Infinity = as long as the client lives
 */

/**
 *     const chat = await new Client("wss://chat.example.org/websocket", "alice", { token }).open();
 *     await chat.send("bob", "hello");
 *     for await (const message of chat.messages()) …
 *
 * From open() on, the client comes back by itself after every disconnect, until it is closed or the server ends it.
 */
export class Client {
  #session;

  /** @param {string} url ws:// or wss:// of a mobileimsdk listener @param {string} name @param {Options} options */
  constructor(url, name, options) {
    const { password = "", token = "" } = options ?? {};
    if (!password === !token) throw new TypeError("give a password or a token");
    if (typeof name !== "string" || name === "") throw new TypeError("give the name of the user");
    if (!/^wss?:\/\/[^/]/.test(url)) throw new TypeError(`${url}: write ws:// or wss://, and the server`);
    const session = (this.#session = new Session(url, name, options));
    const { requests } = session;
    this.friends = new Friends(requests);
    this.blocks = new Blocks(requests);
    this.privacy = new Privacy(requests);
    this.profiles = new Profiles(requests);
    this.presence = new Presences(requests);
    this.groups = new Groups(requests);
    this.conversations = new Conversations(requests);
    this.files = new Files(requests, (said) => options.http ?? said ?? url.replace(/^ws/, "http"));
    this.push = new Push(requests);
    this.account = new Account(requests, (secret) => {
      if (typeof session.secret === "string") session.secret = secret;
    });
    session.onLive = () => void this.presence.watchAgain((notice) => session.tell("presence", notice));
  }

  /** Log in; this client, once logged in. Ends the user's other session on this wire. Messages can be sent as soon as
   * it is called. Rejects with Unreachable, LoginRefused, Kicked, JournalUnusable; the client is closed then.
   * @returns {Promise<this>} */
  async open() {
    await this.#session.open();
    return this;
  }

  /** Log out. First, unless settle is false, it waits for acknowledgements (timing.settle), and the message taken last
   * counts as taken. What is not acknowledged stays in the journal. @param {{settle?: boolean}} [options] */
  async close({ settle = true } = {}) {
    await this.#session.close(settle);
  }

  /** @returns {StateName} */
  get state() {
    return this.#session.state;
  }

  /** The user; the number is known once logged in. @returns {User} */
  get me() {
    return this.#session.me;
  }

  /** What chatd has granted of the features asked for. @returns {string[]} */
  get features() {
    return this.#session.features;
  }

  // ------------------------------------------------------------ sending

  /**
   * Resolves once the message is durably stored. It is sent over as many connections as this takes, and stored once.
   * Messages to one recipient are stored in the order of the calls.
   *
   * Rejects with Refused (nothing was stored), NotAcknowledged (it is still sent), Overloaded, SessionEnded.
   * @param {string|number} to a user's name or number, or "#" and the number of a group
   * @param {string} text
   * @param {MessageFields} [fields]
   * @returns {Promise<Sent>}
   */
  async send(to, text, { timeout, fp = newFp(), reply, mentions, typeu, files } = {}) {
    const session = this.#session;
    const place = placeOf(to);
    if (typeof text !== "string") throw new TypeError("the text of a message is a string");
    if (typeof fp !== "string" || fp === "" || fp.length > 64) throw new RangeError("an fp has 1 to 64 characters");
    const writtenAt = Date.now();
    if (session.ended !== null) throw session.ended;
    const whole = wellFormed(text);
    const bytes = new TextEncoder().encode(whole).length;
    if (bytes > MAX_TEXT_BYTES) throw refusal(Code.TOO_LONG, "the text is too long", fp);
    await session.loaded.promise;
    if (session.ended !== null) throw session.ended;
    const stored = session.sender.add({ fp, to: place, text: whole, writtenAt, reply, mentions, typeu, files });
    return within(timeout ?? session.timing.send, stored, () =>
      session.sender.withdraw(fp) ?? new NotAcknowledged("not acknowledged in time, and still sent", fp));
  }

  /** Answer a message in its conversation. As send().
   * @param {Message} message @param {string} text @param {MessageFields} [fields] */
  reply(message, text, fields = {}) {
    return this.send(message.conversation, text, { reply: message.seq, ...fields });
  }

  /** The messages that wait for their acknowledgement, those of an earlier run included, the oldest first. The event
   * "outbox" tells what becomes of them. @returns {OutgoingMessage[]} */
  get outbox() {
    return [...this.#session.sender.messages.values()].map(({ message }) => ({ ...message }));
  }

  /** How many they are. */
  get unacknowledged() {
    return this.#session.sender.messages.size;
  }

  // ------------------------------------------------------------ receiving

  /**
   * Every message to the user, once, each conversation in order. A message counts as taken when the next one is asked
   * for; then it is acknowledged. Ends when the client is closed; throws SessionEnded if the server ends the session,
   * and what was not taken waits for the next login.
   * @returns {AsyncGenerator<Message, void, void>}
   */
  async *messages() {
    for (;;) {
      let message;
      try {
        message = await this.#session.inbox.next();
      } catch (error) {
        if (error instanceof ClientClosed) return;
        throw error;
      }
      yield message;
    }
  }

  /** The next message. The one before it counts as taken. Rejects with SessionEnded, and with NoAnswer after timeout
   * (ms), after which nothing is lost. @param {{timeout?: number}} [options] @returns {Promise<Message>} */
  receive({ timeout = Infinity } = {}) {
    const { inbox } = this.#session;
    const next = inbox.next();
    const cancel = clock.after(timeout, () => inbox.cancel(new NoAnswer("no message in time")));
    return next.finally(cancel);
  }

  /**
   * Be called with what happens besides messages: the notices of the server by their names (docs/protocols/
   * mobileimsdk.md), and those of the client:
   *
   * * "state": {state, why}
   * * "outbox": {state: "waiting", message}, which is in the journal now; {state: "stored", message, sent};
   *   {state: "refused", message, error}
   * * "journal.lost": {text}; the client goes on, and remembers only as long as it lives
   *
   * Notices are not stored: what happened while the client was away is not among them.
   * @param {string} event "*" = all of them @param {(data: any, event: string) => void} handler
   * @returns {() => void} ends it
   */
  on(event, handler) {
    return this.#session.feed.on(event, handler);
  }

  /** The same, from now on and one by one; {event, data}. If they are not read, the oldest are dropped, which
   * "events.lost" ({count}) tells. Ends when the client is closed; throws SessionEnded.
   * @returns {AsyncGenerator<ChatEvent, void, void>} */
  events() {
    return this.#session.feed.read();
  }

  // ------------------------------------------------------------ asking

  /** An operation of the server, or of its plug-ins, by name. Rejects with Refused, NoAnswer, Overloaded, SessionEnded.
   * @param {string} op @param {Record<string, any>} [args] those that are undefined are left out
   * @returns {Promise<any>} */
  request(op, args) {
    return this.#session.requests.ask(op, args);
  }
}

// ================================================================ the timers of a worker

if (typeof document === "undefined" && Reflect.get(globalThis, "name") === TIMER_WORKER) {
  globalThis.onmessage = ({ data: [number, ms] }) => void setTimeout(() => globalThis.postMessage(number), ms);
}
