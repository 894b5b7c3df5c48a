/**
 * A client of chatd for web pages and Node.js: one ES module, no build step, no dependencies.
 *
 * It speaks the mobileimsdk wire over WebSocket. It stays logged in over lost connections, sends each message until it
 * is durably stored (once), and gives each message to the program once. The names are those of the Python client.
 *
 * Owns: the protocol and the state of one login. Elsewhere: what a page shows; what is kept over reloads is in a
 * Journal, of which IndexedDbJournal is one. Fails: with ChatError and its subclasses; TypeError and RangeError for
 * arguments that can never be right.
 *
 * A tour: errors; times; what is remembered (Seen, IndexedDbJournal); Inbox, Sender, Requests; Client; the operations
 * of the server by subject.
 *
 * @module chatd
 */

export const VERSION = "0.1.0";

// ---------------------------------------------------------------- errors

/** Why a server refuses. Other numbers are those of plug-ins and of later servers. @enum {number} */
export const Code = Object.freeze({
  UNKNOWN: 2, INVALID_PACKET: 4, NOT_LOGGED_IN: 301, BAD_CREDENTIALS: 1025, ALREADY_LOGGED_IN: 1026, NAME_TAKEN: 1027,
  NAME_NOT_ALLOWED: 1028, PASSWORD_NOT_ALLOWED: 1029, REGISTRATION_CLOSED: 1030, CLAIMED_IDENTITY: 1031,
  UNKNOWN_RECIPIENT: 1032, NOT_A_MEMBER: 1033, UNKNOWN_GROUP: 1034, TOO_LONG: 1035, BAD_FIELD: 1036,
  UNKNOWN_REQUEST: 1037, TOO_FAST: 1038, NOT_ALLOWED: 1039, UNAVAILABLE: 1040, BUSY: 1041, LIMIT_REACHED: 1042,
  INTERNAL: 1043, FP_REUSED: 1044, TOO_MANY_ATTEMPTS: 1045, ACCOUNT_LOCKED: 1046, INVITE_NEEDED: 1047, TLS_NEEDED: 1048,
  NOT_ACCEPTED: 1049, BLOCKED_BY_YOU: 1050, MUTED: 1051, ANNOUNCEMENTS_ONLY: 1052, MAILBOX_FULL: 1053, BANNED: 1054,
  INVITATION_NEEDED: 1055, APPROVAL_PENDING: 1056, UNKNOWN_MESSAGE: 1057, TOO_LATE: 1058,
});

/** Codes of refusals after which the same may succeed later. */
const TEMPORARY = new Set([
  Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY, Code.INTERNAL, Code.TOO_MANY_ATTEMPTS, Code.MAILBOX_FULL,
]);
/** Of these, the ones after which a request is asked again by itself. */
const PUT_OFF = new Set([Code.TOO_FAST, Code.UNAVAILABLE, Code.BUSY]);

/** Base of every error of this module. code: a Code, or 0 where no server has spoken. */
export class ChatError extends Error {
  /** @param {string} text one line for a person @param {number} [code] */
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
/** This login is over, and does not come back by itself. */
export class SessionEnded extends ChatError {}
/** The server does not let this user in: code says why. */
export class LoginRefused extends SessionEnded {}
/** The server has ended the session. */
export class Kicked extends SessionEnded {
  /** @param {string} text @param {"duplicate"|"admin"} why duplicate: the user has logged in elsewhere */
  constructor(text, why) {
    super(text);
    this.why = why;
  }
}
/** The client was closed by the program, or is not open yet. */
export class ClientClosed extends SessionEnded {}
/** The server has refused; nothing was changed or stored. */
export class Refused extends ChatError {
  /** @param {string} text @param {number} code @param {string} [fp] of the message or request */
  constructor(text, code, fp = "") {
    super(text || "refused", code);
    this.fp = fp;
  }
}
/** Not stored in time, and still sent. To wait again, send the same with fp = error.fp: it is stored once. */
export class NotAcknowledged extends ChatError {
  /** @param {string} text @param {string} fp */
  constructor(text, fp) {
    super(text);
    this.fp = fp;
    this.temporary = true;
  }
}
/** The server did not answer a request in time: whether it was carried out is not known. */
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

// ---------------------------------------------------------------- times

/**
 * Every wait, in milliseconds.
 * @typedef {object} Timing
 * @property {number} connect for a WebSocket to open
 * @property {number} answer for the answer to a login, a message or a request
 * @property {number} enter for the first login, with all its attempts
 * @property {number} send for the acknowledgement of a message, over all connections that this takes
 * @property {number} keepAlive between two signs of life; not more than the server's listen.keep_alive_s
 * @property {number} backoffFirst the first pause between two attempts to connect
 * @property {number} backoffMost the longest
 * @property {number} steady after a connection that lasted this long, pauses begin again with the shortest
 * @property {number} settle the longest wait for acknowledgements in close()
 */
/** @type {Timing} */
export const TIMING = Object.freeze({
  connect: 5000, answer: 15000, enter: 30000, send: 60000, keepAlive: 10000, backoffFirst: 200, backoffMost: 15000,
  steady: 2000, settle: 10000,
});
/** The pause after a login was refused because of too many attempts. */
const AFTER_MANY_ATTEMPTS_MS = 30000;

/** Pauses twice as long each time, each shortened by up to half at random, so that not all clients of a server that was
 * restarted come at once. */
class Backoff {
  constructor(first, most) {
    this.first = this.now = first;
    this.most = most;
  }
  next() {
    const pause = this.now;
    this.now = Math.min(pause * 2, this.most);
    return pause * (0.5 + Math.random() / 2);
  }
  reset() {
    this.now = this.first;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A promise with its functions. It never counts as unhandled: whoever waits is told. */
function deferred() {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  it.promise.catch(() => {});
  return it;
}

/** The promise, or the error that late() makes after ms. */
function within(ms, promise, late) {
  let timer;
  const limit = new Promise((_, reject) => (timer = setTimeout(() => reject(late()), ms)));
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

// ---------------------------------------------------------------- what is remembered

/** Numbers kept of one conversation. A server has far fewer messages in flight to one client. */
const WINDOW = 1024;
/** Conversations that are remembered; the one that was silent longest is forgotten first. */
const CONVERSATIONS = 2000;
/** Fps of answers, notices and messages without a number that are remembered, to know copies. */
const RECENT = 10000;
/** A server knows a message again by its fp for a week. */
const FP_KEPT_MS = 6 * 24 * 3600 * 1000;

/**
 * Which messages the program has taken: of each conversation the numbers, with the times of storing. A server that lost
 * its data begins again with 1; then the same number has another time, or a number below the window a later one.
 */
class Seen {
  constructor() {
    this.conversations = new Map();
  }
  has({ conversationId, seq, sentAt }) {
    const one = this.conversations.get(conversationId);
    if (one === undefined) return false;
    const known = one.times.get(seq);
    return known !== undefined ? known === sentAt : seq <= one.floor && sentAt <= one.newest;
  }
  add(message) {
    const { conversationId: id, seq, sentAt } = message;
    if (this.has(message)) return;
    let one = this.conversations.get(id);
    if (one === undefined || seq <= one.floor || one.times.has(seq)) one = { floor: 0, newest: 0, times: new Map() };
    one.times.set(seq, sentAt);
    one.newest = Math.max(one.newest, sentAt);
    if (one.times.size > WINDOW) {
      const lowest = Math.min(...one.times.keys());
      one.times.delete(lowest);
      one.floor = Math.max(one.floor, lowest);
    }
    this.conversations.delete(id);
    this.conversations.set(id, one);
    if (this.conversations.size > CONVERSATIONS) this.conversations.delete(this.conversations.keys().next().value);
  }
}

/**
 * What a client keeps over reloads and restarts: a map from texts to values that can be cloned. A message counts as
 * taken once set() is done, and as sent once its set() is done.
 * @typedef {object} Journal
 * @property {() => Promise<[string, any][]>} entries
 * @property {(key: string, value: any) => Promise<void>} set
 * @property {(key: string) => Promise<void>} delete
 */

/** A Journal in the browser's IndexedDB; one per user and server. Two pages that use the same at the same time would
 * both log in, and end each other's session. @implements {Journal} */
export class IndexedDbJournal {
  /** @param {string} name for instance "chat.example.org/alice" */
  constructor(name) {
    this._database = new Promise((resolve, reject) => {
      const opening = indexedDB.open(`chatd:${name}`, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore("journal");
      opening.onsuccess = () => resolve(opening.result);
      opening.onerror = () => reject(opening.error);
    });
    this._database.catch(() => {}); // entries() reports it
  }
  async _do(mode, work) {
    const transaction = (await this._database).transaction("journal", mode);
    const result = work(transaction.objectStore("journal"));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
  async entries() {
    let keys, values;
    await this._do("readonly", (store) => {
      keys = store.getAllKeys();
      values = store.getAll();
    });
    return keys.result.map((key, at) => [key, values.result[at]]);
  }
  async set(key, value) {
    await this._do("readwrite", (store) => void store.put(value, key));
  }
  async delete(key) {
    await this._do("readwrite", (store) => void store.delete(key));
  }
}

/** Seen, and the Journal behind it. A journal that fails is given up, which onLost is told once. */
class Memory {
  constructor(journal, onLost) {
    this.journal = journal;
    this.onLost = onLost;
    this.seen = new Seen();
  }
  /** The messages of an earlier run that no server has answered, in order. */
  async load() {
    const pending = [];
    for (const [key, value] of (await this._try((journal) => journal.entries())) ?? []) {
      if (key.startsWith("seen:")) value.forEach(([conversationId, seq, sentAt]) => this.seen.add({ conversationId, seq, sentAt }));
      else if (key.startsWith("sent:") && Date.now() - value.writtenAt < FP_KEPT_MS) pending.push(value);
      else await this._try((journal) => journal.delete(key));
    }
    return pending.sort((one, other) => one.order - other.order);
  }
  async took(message) {
    this.seen.add(message);
    const id = message.conversationId;
    const times = this.seen.conversations.get(id).times;
    await this._try((journal) => journal.set(`seen:${id}`, [...times].slice(-WINDOW / 4).map(([seq, at]) => [id, seq, at])));
  }
  wrote(message) {
    return this._try((journal) => journal.set(`sent:${message.fp}`, message));
  }
  settled(fp) {
    return this._try((journal) => journal.delete(`sent:${fp}`));
  }
  async _try(use) {
    if (!this.journal) return undefined;
    try {
      return await use(this.journal);
    } catch (error) {
      if (this.journal) this.onLost(String(error));
      this.journal = null;
      return undefined;
    }
  }
}

// ---------------------------------------------------------------- messages to the program

/**
 * A message that another user has sent.
 * @typedef {object} Message
 * @property {string} conversation as send() takes it: the other user's name, or "#" and the group's number
 * @property {number} conversationId
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
 */

/** Messages that wait to be taken. One counts as taken when the next one is asked for. */
class Inbox {
  constructor(limit, taken) {
    this.limit = limit;
    this.taken = taken;
    this.waiting = new Map();
    this.current = null;
    this.reader = null;
    this.end = null;
  }
  holds(key) {
    return this.waiting.has(key) || this.current?.[0] === key;
  }
  put(key, message) {
    if (this.waiting.size >= this.limit) return false;
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
  async next() {
    if (this.reader !== null) throw new ChatError("messages are read in two places at once: read them in one");
    const reader = (this.reader = deferred());
    try {
      await this.finish();
      this._serve();
      return await reader.promise;
    } finally {
      this.reader = null;
    }
  }
  /** The next message may be asked for again by somebody else: nothing is lost. */
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
    } else if (this.end !== null) {
      this.reader.reject(this.end);
    }
  }
  close(why) {
    this.end = why;
    this.waiting.clear();
    this._serve();
  }
}

// ---------------------------------------------------------------- messages of the program

/** Maximum messages without an acknowledgement. */
const OUTBOX = 10000;
/** Maximum messages in flight, of all conversations. */
const IN_FLIGHT = 64;

/**
 * Each message is sent until it is stored or refused for good. Of one conversation, one is in flight at a time, so that
 * a message that is put off for a moment is not overtaken.
 */
class Sender {
  constructor(client) {
    this.client = client;
    this.lanes = new Map();
    this.messages = new Map();
    this.inFlight = 0;
    this.order = 0;
    this.transmit = null;
    this.empty = [];
  }
  add(message) {
    const known = this.messages.get(message.fp);
    if (known !== undefined) return known.stored.promise;
    if (this.messages.size >= OUTBOX) throw new Overloaded("too many messages wait for their acknowledgement");
    this.order = message.order = Math.max(this.order + 1, message.order ?? 0);
    const entry = { message, stored: deferred(), written: null };
    this.messages.set(message.fp, entry);
    entry.written = this.client._memory.wrote(message);
    const lane = this.lanes.get(message.to) ?? { waiting: [], busy: false, timer: 0, backoff: new Backoff(500, 5000) };
    this.lanes.set(message.to, lane);
    lane.waiting.push(entry);
    this._advance(lane);
    return entry.stored.promise;
  }
  start(transmit) {
    this.transmit = transmit;
    this._next();
  }
  stop() {
    this.transmit = null;
    this.inFlight = 0;
    for (const lane of this.lanes.values()) {
      clearTimeout(lane.timer);
      lane.busy = false;
    }
  }
  stored(fp, packet) {
    const entry = this._settle(fp);
    if (entry === undefined) return;
    const { to: conversation } = entry.message;
    entry.stored.resolve({ conversation, fp, seq: packet.seq ?? 0, sentAt: Math.max(packet.sm ?? 0, 0) });
  }
  refused(fp, code, text) {
    const entry = this.messages.get(fp);
    if (entry === undefined) return;
    if (!TEMPORARY.has(code)) {
      this._settle(fp);
      entry.stored.reject(new Refused(text, code, fp));
      this.client._tell("send.refused", { message: entry.message, code, text });
      return;
    }
    const lane = this.lanes.get(entry.message.to);
    if (lane.waiting[0] !== entry || !lane.busy) return;
    clearTimeout(lane.timer);
    this.inFlight -= 1;
    entry.putOff = new Refused(text, code, fp);
    lane.timer = setTimeout(() => {
      lane.busy = false;
      entry.putOff = undefined;
      this._advance(lane);
    }, lane.backoff.next());
  }
  /** Forget a message that the server has put off; the refusal. undefined: it may be stored. */
  withdraw(fp) {
    const refusal = this.messages.get(fp)?.putOff;
    if (refusal !== undefined) this._settle(fp);
    return refusal;
  }
  end(why) {
    this.stop();
    for (const { stored } of this.messages.values()) stored.reject(why);
    this._tellEmpty();
  }
  whenEmpty() {
    const empty = deferred();
    this.empty.push(empty);
    if (this.messages.size === 0) this._tellEmpty();
    return empty.promise;
  }
  _tellEmpty() {
    this.empty.splice(0).forEach((empty) => empty.resolve());
  }
  _settle(fp) {
    const entry = this.messages.get(fp);
    if (entry === undefined) return undefined;
    this.messages.delete(fp);
    entry.written.then(() => this.client._memory.settled(fp));
    const lane = this.lanes.get(entry.message.to);
    if (lane.waiting[0] === entry) {
      clearTimeout(lane.timer);
      if (lane.busy && entry.putOff === undefined) this.inFlight -= 1;
      lane.busy = false;
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
    for (const lane of [...this.lanes.values()]) this._advance(lane);
  }
  _advance(lane) {
    const entry = lane.waiting[0];
    if (entry === undefined || this.transmit === null || lane.busy || this.inFlight >= IN_FLIGHT) return;
    lane.busy = true;
    this.inFlight += 1;
    lane.timer = setTimeout(() => this.client._drop("a message was not answered"), this.client._timing.answer);
    this.transmit(entry.message);
  }
}

// ---------------------------------------------------------------- requests

/** Maximum requests without an answer. */
const REQUESTS = 256;
/** Maximum pages that are read of one list. */
const PAGES = 50;

class Requests {
  constructor(client) {
    this.client = client;
    this.pending = new Map();
    this.numbers = 0;
    this.send = null;
  }
  start(send) {
    this.send = send;
    for (const { packet } of this.pending.values()) send(packet);
  }
  stop() {
    this.send = null;
  }
  end(why) {
    this.send = null;
    for (const { answer } of this.pending.values()) answer.reject(why);
  }
  answered(ref, content) {
    this.pending.get(ref)?.answer.resolve(content);
  }
  /** The server did not read the request as one. false: it is none of these. */
  refused(fp, code, text) {
    for (const { packet, answer } of this.pending.values()) {
      if (packet.fp !== fp) continue;
      answer.resolve({ ok: false, error: { code, text } });
      return true;
    }
    return false;
  }
  async ask(op, args = {}) {
    const limit = this.client._timing.answer;
    const until = Date.now() + limit;
    const backoff = new Backoff(300, 3000);
    for (;;) {
      const answer = await within(Math.max(0, until - Date.now()), this._once(op, args), () =>
        new NoAnswer(`no answer to ${op}: whether this was done is not known`));
      if (answer.ok) return answer.result ?? {};
      const { code, text } = answer.error ?? { code: Code.UNKNOWN, text: "" };
      const wait = backoff.next();
      if (!PUT_OFF.has(code) || Date.now() + wait > until) throw new Refused(text, code);
      await pause(wait);
    }
  }
  /** All rows of a list that the server gives in pages. */
  async rows(op, name, args, idOf) {
    const found = [];
    for (let page = 0; page < PAGES; page += 1) {
      const after = found.length > 0 ? idOf(found.at(-1)) : undefined;
      const { [name]: rows = [], more = false } = await this.ask(op, { ...args, after });
      found.push(...rows);
      if (!more || rows.length === 0) break;
    }
    return found;
  }
  async _once(op, args) {
    if (this.client._ended !== null) throw this.client._ended;
    if (this.pending.size >= REQUESTS) throw new Overloaded("too many requests wait for an answer");
    const ref = (this.numbers += 1);
    const packet = this.client._data("0", JSON.stringify({ op, ref, ...args }), newFp());
    const answer = deferred();
    this.pending.set(ref, { packet, answer });
    this.send?.(packet);
    try {
      return await within(this.client._timing.answer, answer.promise, () => new NoAnswer(`no answer to ${op}`));
    } finally {
      this.pending.delete(ref);
    }
  }
}

// ---------------------------------------------------------------- the client

/** @enum {string} */
export const State = Object.freeze({ CONNECTING: "connecting", LIVE: "live", WAITING: "waiting", CLOSED: "closed" });
const TRANSITIONS = {
  connecting: ["live", "waiting", "closed"],
  live: ["waiting", "closed"],
  waiting: ["connecting", "closed"],
  closed: [],
};

const Type = { LOGIN: 0, KEEP_ALIVE: 1, DATA: 2, LOGOUT: 3, ACKNOWLEDGE: 4, LOGIN_ANSWER: 50, ERROR: 52, KICKED: 54 };
/** Close codes after which the client does not come back, as a packet of type 54 may have been lost. */
const FINAL = { 4001: "duplicate", 4002: "admin", 4008: "duplicate", 4009: "admin" };
const EXPIRED = "token expired";

function newFp() {
  return globalThis.crypto?.randomUUID?.() ?? `${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

/** A text as JSON; {} for anything else. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {};
  }
}

/** The conversation of send(): a user's name or number, or "#" and a group's number. */
function placeOf(to) {
  if (typeof to === "number") {
    if (!Number.isSafeInteger(to) || to <= 0) throw new RangeError(`${to} is not the number of a user`);
    return String(to);
  }
  if (typeof to !== "string" || to === "" || to === "0" || to === "-1") throw new RangeError(`${to} is not a user`);
  if (to.startsWith("#") && !/^#[1-9][0-9]*$/.test(to)) throw new RangeError(`${to} is not a group: # and its number`);
  return to;
}

/**
 * What a program may choose.
 * @typedef {object} Options
 * @property {string} [password] the secret; or
 * @property {string|(() => string|Promise<string>)} [token] a token, or a function that gets one for each login
 * @property {Journal} [journal] what is kept over reloads; without one, only as long as the client lives
 * @property {string[]} [features] what is asked of chatd at the login; default: seq and typing
 * @property {object} [extra] further members of `extra` in the login, for plug-ins of the server
 * @property {number} [inboxMessages] maximum messages that wait to be taken; default 4096
 * @property {Partial<Timing>} [timing]
 * @property {typeof WebSocket} [WebSocket] in place of the global one
 */

/**
 *     const chat = await new Client("wss://chat.example.org/websocket", "alice", { token }).open();
 *     await chat.send("bob", "hello");
 *     for await (const message of chat.messages()) …
 *
 * From open() on, the client comes back by itself after every disconnect, until it is closed or the server ends it.
 */
export class Client {
  /** @param {string} url ws:// or wss:// of a mobileimsdk listener @param {string} name @param {Options} options */
  constructor(url, name, options) {
    const { password = "", token = "", journal = null, inboxMessages = 4096, timing = {} } = options ?? {};
    if (!password === !token) throw new TypeError("give a password or a token");
    if (!/^wss?:\/\//.test(url)) throw new TypeError(`${url}: write ws:// or wss://`);
    this.url = url;
    /** The user; the number is known once logged in. @type {{id: number, name: string}} */
    this.me = { id: 0, name };
    /** What chatd has granted of the features asked for. @type {string[]} */
    this.features = [];
    /** @type {State} */
    this.state = State.CONNECTING;
    this._options = options;
    this._secret = password || token;
    this._timing = { ...TIMING, ...timing };
    this._WebSocket = options.WebSocket ?? globalThis.WebSocket;
    this._memory = new Memory(journal, (text) => this._tell("journal.lost", { text }));
    this._inbox = new Inbox(inboxMessages, (key, message) => this._taken(key, message));
    this._sender = new Sender(this);
    this._requests = new Requests(this);
    this._acks = new Map();
    this._recent = new Set();
    this._handlers = new Map();
    this._socket = null;
    this._firstLoginTime = 0;
    this._heardAt = 0;
    this._liveAt = 0;
    this._holdUntil = 0;
    this._freshRefusals = 0;
    this._timers = {};
    this._backoff = new Backoff(this._timing.backoffFirst, this._timing.backoffMost);
    this._ended = new ClientClosed("the client is not open");
    this._opened = null;
    const ask = (op, args) => this._requests.ask(op, args);
    this.friends = friendsOf(ask);
    this.blocks = blocksOf(ask, this._requests);
    this.privacy = privacyOf(ask);
    this.profiles = profilesOf(ask);
    this.presence = presenceOf(ask);
    this.groups = groupsOf(ask, this._requests);
    this.conversations = conversationsOf(ask);
    this.account = accountOf(ask, (secret) => {
      if (typeof this._secret === "string") this._secret = secret;
    });
  }

  /** Log in; this client, once logged in. Rejects with Unreachable, LoginRefused, Kicked. @returns {Promise<Client>} */
  async open() {
    if (this._opened !== null) throw new ClientClosed("a client is opened once: make a new one");
    this._opened = deferred();
    this._ended = null;
    for (const message of await this._memory.load()) this._sender.add(message);
    this._connect();
    try {
      await within(this._timing.enter, this._opened.promise, () => new Unreachable(`cannot log in at ${this.url}: ${this._why}`));
    } catch (error) {
      this._end(error);
      throw error;
    }
    return this;
  }

  /** Log out. First, unless settle is false, it waits for acknowledgements, and the message taken last counts as taken.
   * @param {{settle?: boolean}} [options] */
  async close({ settle = true } = {}) {
    if (settle && this._ended === null) {
      await this._inbox.finish();
      await Promise.race([this._sender.whenEmpty(), pause(this._timing.settle)]);
    }
    if (this.state === State.LIVE) this._send({ type: Type.LOGOUT, from: this.me.name, to: "0" });
    this._end(new ClientClosed("the client is closed"));
  }

  // ------------------------------------------------------------ sending and receiving

  /**
   * Resolves once the message is durably stored. It is sent over as many connections as this takes, and stored once.
   * Messages to one recipient are stored in the order of the calls.
   *
   * Rejects with Refused (nothing was stored), NotAcknowledged (it is still sent), Overloaded, SessionEnded.
   * @param {string|number} to a user's name or number, or "#" and the number of a group
   * @param {string} text
   * @param {{reply?: number, mentions?: (string|number)[]|"all", typeu?: number, fp?: string, timeout?: number}} [fields]
   *   reply: the seq of the message that it answers. mentions: members of the group. typeu: the application's own
   *   sub-type. fp: its id, by which it is stored once. timeout: ms, in place of timing.send
   * @returns {Promise<{conversation: string, seq: number, sentAt: number, fp: string}>}
   */
  async send(to, text, { timeout = this._timing.send, fp = newFp(), ...fields } = {}) {
    if (typeof text !== "string") throw new TypeError("the text of a message is a string");
    if (this._ended !== null) throw this._ended;
    const stored = this._sender.add({ ...fields, fp, to: placeOf(to), text, writtenAt: Date.now() });
    const late = () => this._sender.withdraw(fp) ?? new NotAcknowledged("not acknowledged in time, and still sent", fp);
    return within(timeout, stored, late);
  }

  /** Answer a message in its conversation. As send(). @param {Message} message @param {string} text */
  reply(message, text, fields = {}) {
    return this.send(message.conversation, text, { reply: message.seq, ...fields });
  }

  /** Messages that wait for their acknowledgement. */
  get unacknowledged() {
    return this._sender.messages.size;
  }

  /**
   * Every message to the user, once, each conversation in order. A message counts as taken when the next one is asked
   * for; then it is acknowledged. Ends when the client is closed; throws SessionEnded if the server ends the session.
   * @returns {AsyncGenerator<Message, void, void>}
   */
  async *messages() {
    for (;;) {
      try {
        yield await this._inbox.next();
      } catch (error) {
        if (error instanceof ClientClosed) return;
        throw error;
      }
    }
  }

  /** The next message. The one before it counts as taken. Rejects with NoAnswer after timeout (ms); then nothing is
   * lost. @param {{timeout?: number}} [options] @returns {Promise<Message>} */
  async receive({ timeout = 0 } = {}) {
    const next = this._inbox.next();
    if (timeout <= 0) return next;
    const timer = setTimeout(() => this._inbox.cancel(new NoAnswer("no message in time")), timeout);
    return next.finally(() => clearTimeout(timer));
  }

  /**
   * Be called with what happens besides messages: the notices of the server by their names (docs/protocols/
   * mobileimsdk.md), "state" ({state, why}), "send.refused" ({message, code, text}), "journal.lost" ({text}); "*" = all
   * of them, with the name as second argument. Notices are not stored: what happened while the client was away is not
   * among them. @param {string} event @param {(data: any, event: string) => void} handler
   * @returns {() => void} ends it
   */
  on(event, handler) {
    const handlers = this._handlers.get(event) ?? new Set();
    this._handlers.set(event, handlers.add(handler));
    return () => void handlers.delete(handler);
  }

  /** An operation of the server, or of its plug-ins, by name. Rejects with Refused, NoAnswer, Overloaded, SessionEnded.
   * @param {string} op @param {object} [args] those that are undefined are left out @returns {Promise<any>} */
  request(op, args) {
    return this._requests.ask(op, args);
  }

  _tell(event, data) {
    for (const name of [event, "*"]) {
      for (const handler of this._handlers.get(name) ?? []) {
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

  // ------------------------------------------------------------ connections

  _enter(state, why = "") {
    if (state === this.state || this.state === State.CLOSED) return;
    if (!TRANSITIONS[this.state].includes(state)) throw new Error(`${this.state} -> ${state}`);
    this.state = state;
    this._tell("state", { state, why });
  }

  _connect() {
    if (this._ended !== null) return;
    this._enter(State.CONNECTING);
    this._why = "no answer";
    let socket;
    try {
      socket = new this._WebSocket(this.url, "mobileimsdk");
    } catch (error) {
      this._opened.reject(new Unreachable(`cannot connect to ${this.url}: ${error.message}`));
      return;
    }
    this._socket = socket;
    this._after("login", this._timing.connect, () => this._drop("no connection in time"));
    socket.onopen = () => this._logIn(socket);
    socket.onmessage = ({ data }) => socket === this._socket && this._take(parsed(data));
    socket.onclose = ({ code, reason }) => socket === this._socket && this._detached(code, reason);
  }

  async _logIn(socket) {
    this._after("login", this._timing.answer, () => this._drop("no answer to the login"));
    let secret;
    try {
      secret = typeof this._secret === "string" ? this._secret : await this._secret();
    } catch (error) {
      if (socket === this._socket) this._drop(`no token: ${error.message}`);
      return;
    }
    if (socket !== this._socket) return;
    const features = this._options.features ?? ["seq", "typing"];
    const content = {
      loginUserId: this.me.name,
      loginToken: secret,
      firstLoginTime: this._firstLoginTime,
      extra: JSON.stringify({ ...this._options.extra, chatd: { features } }),
    };
    this._send({ type: Type.LOGIN, from: this.me.name, to: "0", dataContent: JSON.stringify(content) });
  }

  /** The connection is of no use any more. */
  _drop(why) {
    const socket = this._socket;
    if (socket === null) return;
    this._why = why;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    this._detached(1006, "");
  }

  _detached(code, reason) {
    const wasLive = this.state === State.LIVE;
    this._socket = null;
    this._clearTimers();
    this._sender.stop();
    this._requests.stop();
    if (this._ended !== null) return;
    const why = reason || (code === 1006 ? this._why : `closed with ${code}`);
    if (code in FINAL && !(reason === EXPIRED && typeof this._secret !== "string")) {
      this._end(new Kicked(why, FINAL[code]));
      return;
    }
    this._why = why;
    if (wasLive && Date.now() - this._liveAt > this._timing.steady) this._backoff.reset();
    this._enter(State.WAITING, why);
    const wait = Math.max(this._backoff.next(), this._holdUntil - Date.now());
    this._after("connect", wait, () => this._connect());
  }

  _end(why) {
    if (this._ended !== null) return;
    this._ended = why;
    this._clearTimers();
    this._sender.end(why);
    this._requests.end(why);
    this._inbox.close(why);
    this._opened.reject(why);
    this._enter(State.CLOSED, why.message);
    this._socket?.close();
    this._socket = null;
  }

  _after(name, ms, work) {
    clearTimeout(this._timers[name]);
    this._timers[name] = setTimeout(work, ms);
  }

  _clearTimers() {
    Object.values(this._timers).forEach(clearTimeout);
    this._timers = {};
  }

  _signOfLife() {
    if (Date.now() - this._heardAt > this._timing.keepAlive + this._timing.answer) {
      this._drop("the server is silent");
      return;
    }
    this._send({ type: Type.KEEP_ALIVE, from: this.me.name, to: "0", dataContent: "{}" });
    this._after("life", this._timing.keepAlive, () => this._signOfLife());
  }

  /** Now or never: whatever must not be lost is sent again at the next login. */
  _send(packet) {
    if (this._socket?.readyState === 1) this._socket.send(JSON.stringify(packet));
  }

  _data(to, text, fp) {
    return { type: Type.DATA, from: this.me.name, to, dataContent: text, fp, QoS: true };
  }

  // ------------------------------------------------------------ what the server says

  _take(packet) {
    this._heardAt = Date.now();
    const content = packet.dataContent ?? "";
    switch (packet.type) {
      case Type.DATA:
        this._received(packet);
        break;
      case Type.ACKNOWLEDGE:
        this._sender.stored(content, packet);
        break;
      case Type.LOGIN_ANSWER:
        this._loginAnswered(parsed(content));
        break;
      case Type.ERROR:
        this._refusal(parsed(content));
        break;
      case Type.KICKED:
        this._kicked(parsed(content));
        break;
    }
  }

  _loginAnswered({ code, firstLoginTime = 0, chatd = {} }) {
    if (this.state !== State.CONNECTING) return;
    if (code !== 0) {
      this._loginRefused(code);
      return;
    }
    this._clearTimers();
    this._freshRefusals = 0;
    this._firstLoginTime = firstLoginTime;
    this.features = chatd.features ?? [];
    this.me = { id: chatd.id ?? 0, name: this.me.name };
    this._liveAt = Date.now();
    this._enter(State.LIVE);
    this._signOfLife();
    this._sender.start(({ to, text, fp, reply, mentions, typeu }) => this._send({ ...this._data(to, text, fp), reply, mentions, typeu }));
    this._requests.start((packet) => this._send(packet));
    this.presence._watchAgain();
    this._opened.resolve();
  }

  /** After a temporary refusal the next connection tries again. So it does, once, where the secret is asked for at each
   * login: this one may have expired on its way. */
  _loginRefused(code) {
    const name = Object.keys(Code).find((one) => Code[one] === code) ?? `refused with ${code}`;
    const why = `the login is refused: ${name.replaceAll("_", " ").toLowerCase()}`;
    const fresh = typeof this._secret !== "string" && code === Code.BAD_CREDENTIALS && this._freshRefusals === 0;
    if (code === Code.TOO_MANY_ATTEMPTS) this._holdUntil = Date.now() + AFTER_MANY_ATTEMPTS_MS;
    if (TEMPORARY.has(code) || fresh) {
      this._freshRefusals += fresh ? 1 : 0;
      this._drop(why);
    } else {
      this._end(new LoginRefused(`${this.me.name} cannot log in: ${why}`, code));
    }
  }

  _kicked({ code, reason = "ended by the server" }) {
    if (reason === EXPIRED && typeof this._secret !== "string") this._drop(reason);
    else this._end(new Kicked(reason, code === 1 ? "duplicate" : "admin"));
  }

  _refusal({ errorCode, errorMsg = "" }) {
    if (errorCode === Code.NOT_LOGGED_IN) {
      this._drop("not logged in"); // the server and we disagree: reconnect, which loses nothing
      return;
    }
    const { fp = "", text = errorMsg } = parsed(errorMsg);
    if (fp && !this._requests.refused(fp, errorCode, text)) this._sender.refused(fp, errorCode, text);
  }

  _received(packet) {
    const { from, to = "", fp = "", QoS = false } = packet;
    const ack = QoS && fp ? { type: Type.ACKNOWLEDGE, from: to, to: from, dataContent: fp } : null;
    const content = from === "0" && !packet.seq ? parsed(packet.dataContent ?? "") : {};
    if (typeof content.event === "string" || typeof content.ok === "boolean") {
      if (ack !== null) this._send(ack);
      if (fp && this._isCopy(fp)) return;
      if (typeof content.ok === "boolean") this._requests.answered(content.ref, content);
      else this._notice(content);
      return;
    }
    this._message(packet, ack);
  }

  _notice(notice) {
    if (notice.event === "draining") this._holdUntil = Date.now() + (notice.retry_after_ms ?? 0);
    this._tell(notice.event, notice);
  }

  _message(packet, ack) {
    const { from: sender, to = "", fp = "", dataContent: text, seq = 0, conv: conversationId = 0, sm = 0, typeu = -1 } = packet;
    const { reply = 0, mentions = [], version = 0, state = "sent" } = packet;
    const conversation = to.startsWith("#") ? to : sender;
    const sentAt = Math.max(sm, 0);
    const message = { conversation, conversationId, sender, text: text ?? "", seq, sentAt, fp, typeu, reply, mentions, version, state };
    const key = seq ? `${conversationId} ${seq}` : `${sender} ${fp}`;
    if (this._inbox.holds(key)) this._acks.set(key, ack);
    else if (seq ? this._memory.seen.has(message) : fp && this._recent.has(fp)) this._send(ack ?? {});
    else if (this._inbox.put(key, message)) this._acks.set(key, ack);
    else this._drop("messages come faster than they are taken");
  }

  /** Remembered first, acknowledged second: if the acknowledgement is lost, the message is not given again. */
  async _taken(key, message) {
    if (message.seq) await this._memory.took(message);
    else if (message.fp) this._isCopy(message.fp);
    const ack = this._acks.get(key);
    this._acks.delete(key);
    if (ack && this.state === State.LIVE) this._send(ack);
  }

  /** Whether it came before; now it has. */
  _isCopy(fp) {
    if (this._recent.has(fp)) return true;
    this._recent.add(fp);
    if (this._recent.size > RECENT) this._recent.delete(this._recent.values().next().value);
    return false;
  }
}

// ---------------------------------------------------------------- operations, by subject

/** A user, named by name or number. @typedef {string|number} Who */

const friendsOf = (ask) => ({
  /** Friends, with their presence. */
  list: async () => (await ask("friend.list")).friends ?? [],
  /** Users who ask to become friends. */
  requests: async () => (await ask("friend.list")).requests ?? [],
  /** Ask a user; friends true: the other had asked already. @param {Who} user */
  request: (user) => ask("friend.request", { user }),
  accept: async (user) => (await ask("friend.accept", { user })).user,
  refuse: async (user) => (await ask("friend.refuse", { user })).user,
  /** End a friendship, or withdraw a request. */
  remove: async (user) => (await ask("friend.remove", { user })).user,
});

const blocksOf = (ask, requests) => ({
  list: () => requests.rows("block.list", "users", {}, (user) => user.id),
  /** Neither can write to the other any more. The user is not told; a friendship ends. @param {Who} user */
  add: async (user) => (await ask("block", { user })).user,
  remove: async (user) => (await ask("unblock", { user })).user,
});

const privacyOf = (ask) => ({
  /** The user's choices (privacy), and what applies where one is "default" (defaults). */
  get: () => ask("privacy.get"),
  /** Who may write, ask, see, add: everybody, contacts, friends, nobody, default.
   * @param {{write?: string, ask?: string, see?: string, add?: string}} choices */
  set: async (choices) => (await ask("privacy.set", choices)).privacy,
});

const profilesOf = (ask) => ({
  /** Without a user, one's own. @param {Who} [user] */
  get: (user) => ask("profile.get", { user }),
  /** @param {{nickname?: string, avatar?: string, status?: string, about?: string}} fields "" empties one */
  set: async (fields) => (await ask("profile.set", fields)).profile,
});

/** Users of one request about presence. */
const WATCHED = 100;

function presenceOf(ask) {
  const watched = new Set();
  const all = async (op, users) => {
    const found = [];
    for (let at = 0; at < users.length; at += WATCHED) {
      found.push(...((await ask(op, { users: users.slice(at, at + WATCHED) })).users ?? []));
    }
    return found;
  };
  return {
    /** Whether users are online, and when they were last seen. @param {Who[]} users */
    get: (users) => all("presence.get", users),
    /** Be told of these users with the event "presence", also after the next logins. Their presence now.
     * @param {Who[]} users */
    watch: async (users) => {
      const found = await all("presence.subscribe", users);
      users.forEach((user) => watched.add(user));
      return found;
    },
    /** After a login. Users who do not allow it any more are not watched. */
    _watchAgain: () => all("presence.subscribe", [...watched]).catch(() => {}),
  };
}

function groupsOf(ask, requests) {
  const ofUser = (op) => async (group, user) => (await ask(op, { group, user })).user;
  return {
    list: async () => (await ask("group.list")).groups ?? [],
    /** The user becomes its owner. @param {string} name
     * @param {{description?: string, join?: "open"|"approval"|"invite", history?: "all"|"joining",
     *   announcements?: boolean}} [rules] */
    create: async (name, rules = {}) => (await ask("group.create", { name, ...rules })).group,
    /** Join, accept an invitation, or ask to join; joined false: the owner or an admin decides. @param {number} group */
    join: (group) => ask("group.join", { group }),
    leave: (group) => ask("group.leave", { group }),
    invitations: () => requests.rows("group.invitations", "invitations", {}, (one) => one.group.id),
    /** Decline an invitation, or take back a request to join. */
    decline: (group) => ask("group.decline", { group }),
    /** Its rules, and the user's own place in it. */
    get: (group) => ask("group.get", { group }),
    members: (group) => requests.rows("group.members", "members", { group, limit: 200 }, (one) => one.id),
    rename: async (group, name, description) => (await ask("group.rename", { group, name, description })).group,
    /** How it is joined, who reads its past, who writes. */
    set: (group, rules) => ask("group.set", { group, ...rules }),
    /** End it for all its members. */
    dissolve: (group) => ask("group.dissolve", { group }),
    /** joined: the user had asked, and is a member now. */
    invite: (group, user) => ask("group.invite", { group, user }),
    /** joined false: the user does not accept that, and is invited. */
    add: (group, user) => ask("group.add", { group, user }),
    /** Who asks to join. */
    requests: (group) => requests.rows("group.requests", "requests", { group }, (one) => one.user.id),
    approve: (group, user) => ask("group.approve", { group, user }),
    reject: ofUser("group.reject"),
    /** Remove a member, who is banned with it. */
    kick: ofUser("group.kick"),
    ban: ofUser("group.ban"),
    unban: ofUser("group.unban"),
    bans: (group) => requests.rows("group.bans", "bans", { group }, (one) => one.user.id),
    /** Without seconds, until somebody ends it. */
    mute: async (group, user, seconds) => (await ask("group.mute", { group, user, seconds })).user,
    unmute: ofUser("group.unmute"),
    /** @param {number} group @param {Who} user @param {"owner"|"admin"|"member"} role */
    role: async (group, user, role) => (await ask("group.role", { group, user, role })).user,
  };
}

/** Above every number of a message. */
const NEWEST = 2 ** 52;
/** Messages or conversations that one request asks for. */
const PAGE = 100;

function conversationsOf(ask) {
  /** A text that did not fit into a packet is read to its end. */
  const whole = async (conversation, message) => {
    let { text, cut = 0 } = message;
    while (cut) {
      const more = await ask("history", { with: conversation, after: message.seq - 1, limit: 1, start: cut });
      const [rest] = more.messages ?? [];
      if (rest?.seq !== message.seq) break;
      text += rest.text;
      cut = rest.cut ?? 0;
    }
    return { ...message, text, cut };
  };
  const list = async function* () {
    for (let after = -NEWEST; ; ) {
      const page = await ask("sync", { after, limit: PAGE });
      yield* page.conversations ?? [];
      if (!page.more || !page.conversations?.length) return;
      after = page.conversations.at(-1).id;
    }
  };
  return {
    /** The user's conversations, with the last number, the read mark and unread counts of each. */
    list,
    /** Those with unread messages. */
    unread: async () => {
      const found = [];
      for await (const head of list()) if (head.unread) found.push(head);
      return found;
    },
    /** Messages with numbers above after, the oldest first; or below before, the newest first; with neither, from the
     * newest on. @param {string} conversation @param {{after?: number, before?: number, limit?: number}} [bounds] */
    history: async function* (conversation, { after, before, limit = Infinity } = {}) {
      let seq = after ?? before ?? NEWEST;
      for (let left = limit; left > 0; ) {
        const bounds = after === undefined ? { before: seq } : { after: seq };
        const { messages = [] } = await ask("history", { with: conversation, limit: Math.min(left, PAGE), ...bounds });
        for (const message of messages) yield await whole(conversation, message);
        if (messages.length === 0) return;
        seq = messages.at(-1).seq;
        left -= messages.length;
        if (after === undefined && seq <= 1) return;
      }
    },
    /** Messages that were changed since, in the order of their last change. @param {Record<string, number>} known the
     * number of the last known change of each conversation */
    changes: async (known) => {
      const from = { ...known };
      const found = [];
      for (;;) {
        const { changes = [] } = await ask("sync", { limit: PAGE, changes: from });
        if (changes.length === 0) return found;
        for (const one of changes) from[one.with] = one.change;
        found.push(...changes);
      }
    },
    /** Up to this number. The read mark as it is now. */
    markRead: async (conversation, seq) => (await ask("read", { with: conversation, seq })).seq,
    /** Delete messages from the user's own history. @param {string} conversation
     * @param {{upTo?: number, seqs?: number[]}} which */
    delete: (conversation, { upTo, seqs }) => ask("history.delete", { with: conversation, up_to: upTo, seqs }),
    edit: (conversation, seq, text) => ask("message.edit", { with: conversation, seq, text }),
    /** Delete the text of a message of one's own, for everybody. */
    recall: (conversation, seq) => ask("message.recall", { with: conversation, seq }),
    /** Delete the text of a message of a group, for everybody (owner and admins). @param {number} group */
    remove: (group, seq) => ask("message.remove", { with: `#${group}`, seq }),
    /** Tell the other side that the user is writing; passed on at most once in 2 seconds. */
    typing: (conversation) => ask("typing", { with: conversation }),
  };
}

const accountOf = (ask, passwordChanged) => ({
  whoami: () => ask("whoami"),
  /** The user's other sessions end. The client logs in with the new one from now on. */
  changePassword: async (old, password) => {
    await ask("password.change", { old, new: password });
    passwordChanged(password);
  },
  /** Where the user is logged in. */
  sessions: () => ask("session.list"),
  /** End the user's session on this wire. @param {"chatserver"|"mobileimsdk"} wire */
  endSession: (wire) => ask("session.kick", { wire }),
});
