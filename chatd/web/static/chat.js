/**
 * The chat of one user: the connection, the conversations, the people and groups.
 *
 * Owns: Chat. Elsewhere: the protocol (chatd.js), one conversation (conversation.js), drawing (app.js and below).
 * Fails: open() with what the client throws. Later failures of requests are for whoever asks.
 *
 * @module chat
 */

import { Client, IndexedDbJournal, Kicked, State } from "./chatd.js";
import { Conversation } from "./conversation.js";
import { Links } from "./files.js";
import { announce } from "./notifications.js";
import { Outgoing } from "./outgoing.js";
import { Model } from "./ui.js";

const FEATURES = ["seq", "typing", "delivered"];
/** A hidden tab stays logged in: its timers run in a worker, which is the library itself. */
const TIMERS = new URL("./chatd.js", import.meta.url);
/** Conversations whose newest message is fetched at a login, for the list. */
const PREVIEWS = 30;
/** Of a server that takes no files. @type {import("./chatd.js").FileLimits} */
const NO_FILES = { max_bytes: 0, types: [], quota_bytes: 0, used_bytes: 0, per_message: 0 };

/** A WebSocket of the server that this page comes from. @param {string} path */
function urlOf(path) {
  const { protocol, host } = location;
  return `${protocol === "https:" ? "wss" : "ws"}://${host}${path}`;
}

/** Only what the user has sent is kept: a message that comes twice is shown once, since it has a number. */
class OutgoingJournal extends IndexedDbJournal {
  async set(key, value) {
    if (key.startsWith("sent:")) await super.set(key, value);
  }
}

export class Chat extends Model {
  /** @param {string} name @param {{path: string, text_bytes: number}} ways path: of the WebSocket
   * @param {() => Promise<string>} token gets one for each login */
  constructor(name, { path, text_bytes }, token) {
    super();
    /** The most that a message's text may have, in UTF-8. */
    this.textBytes = text_bytes;
    /** By key. @type {Map<string, Conversation>} */
    this.conversations = new Map();
    /** By name. online, last_seen: as far as the server lets the user see. @type {Map<string, any>} */
    this.people = new Map();
    /** Names of friends, and of users who ask to become friends. @type {string[]} */
    this.friends = [];
    this.requests = [];
    /** By key. @type {Map<string, {id: number, name: string, description: string}>} */
    this.groups = new Map();
    /** Open invitations to groups. @type {{group: any, by: any}[]} */
    this.invitations = [];
    /** The conversation that is shown. @type {Conversation|null} */
    this.shown = null;
    this.state = State.CONNECTING;
    this.why = "";
    /** Why the session is over: "duplicate", "admin", "" = it is not, or the user has logged out. */
    this.ended = "";
    this.isOver = false;
    /** What files may be sent. */
    this.limits = NO_FILES;
    const journal = new OutgoingJournal(`${location.host}/${name}`, { takeOver: true });
    this.client = new Client(urlOf(path), name, { token, journal, features: FEATURES, http: location.origin, timers: TIMERS });
    this.links = new Links(this.client);
    this.outgoing = new Outgoing(this.client, `${location.host}/${name}`);
    this.#listen();
  }

  get me() {
    return this.client.me;
  }

  get isLive() {
    return this.state === State.LIVE;
  }

  /** Log in. */
  async open() {
    await this.client.open();
    const kept = await this.outgoing.open(); // with their files, which the client does not keep
    for (const message of kept) this.conversation(message.to).resumed(message);
    for (const message of this.client.outbox) this.conversation(message.to).resumed({ ...message, files: undefined });
    this.#receive();
  }

  /** Log out. */
  async close() {
    this.isOver = true;
    await this.client.close();
  }

  #listen() {
    const { client } = this;
    client.on("state", ({ state, why }) => {
      Object.assign(this, { state, why });
      if (state === State.LIVE) this.#refresh().catch((error) => this.#failed(error));
      this.changed();
    });
    client.on("message.changed", ({ with: key, ...change }) => this.conversations.get(key)?.edited(change));
    client.on("read", ({ with: key, by, seq }) => {
      this.conversations.get(key)?.readBy(by.name, seq);
      this.changed();
    });
    client.on("delivered", ({ with: key, seq }) => this.conversations.get(key)?.deliveredTo(seq));
    client.on("typing", ({ with: key, by }) => this.conversations.get(key)?.writes(by.name));
    client.on("presence", ({ user, online }) => this.#saw({ ...user, online, last_seen: Date.now() }));
    for (const event of ["friend.request", "friend.accepted", "friend.refused"]) {
      client.on(event, () => this.#loadFriends().catch((error) => this.#failed(error)));
    }
    for (const event of ["group.entered", "group.renamed", "group.kicked", "group.dissolved", "group.invited"]) {
      client.on(event, () => this.#loadGroups().catch((error) => this.#failed(error)));
    }
  }

  async #receive() {
    try {
      for await (const message of this.client.messages()) {
        this.conversation(message.conversation).arrived(message);
        announce(this, message);
        this.changed();
      }
    } catch (error) {
      this.isOver = true;
      this.ended = error instanceof Kicked ? error.why : "admin";
      this.changed();
    }
  }

  /** After each login: what is not told by notices while nobody listens. */
  async #refresh() {
    await Promise.all([this.#loadGroups(), this.#loadFriends(), this.#loadConversations(), this.#loadLimits()]);
  }

  async #loadConversations() {
    const heads = [];
    for await (const head of this.client.conversations.list()) heads.push(head);
    for (const head of heads) {
      const one = this.conversation(head.with);
      one.known(head);
      if (one.messages.length > 0) one.catchUp().catch((error) => this.#failed(error));
    }
    this.changed();
    const latest = heads.filter((head) => this.conversation(head.with).messages.length === 0).slice(-PREVIEWS);
    for (const head of latest) {
      await this.conversation(head.with).load();
      this.changed();
    }
  }

  async #loadLimits() {
    this.limits = await this.client.files.limits().catch(() => NO_FILES); // a server that has no such operation
    this.changed();
  }

  async #loadFriends() {
    const [friends, requests] = await Promise.all([this.client.friends.list(), this.client.friends.requests()]);
    this.friends = friends.map((one) => one.name);
    this.requests = requests.map((one) => one.name);
    friends.forEach((one) => this.#saw(one));
    if (this.friends.length > 0) (await this.client.presence.watch(this.friends)).forEach((one) => this.#saw(one));
    this.changed();
  }

  async #loadGroups() {
    const [groups, invitations] = await Promise.all([this.client.groups.list(), this.client.groups.invitations()]);
    this.groups = new Map(groups.map((one) => [`#${one.id}`, one]));
    this.invitations = invitations;
    for (const key of this.groups.keys()) this.conversation(key);
    this.changed();
  }

  #saw(person) {
    this.people.set(person.name, { ...this.people.get(person.name), ...person });
    this.changed();
  }

  /** Of work in the background: the next login does it again. */
  #failed(error) {
    if (!this.isOver) console.warn(error);
  }

  // ------------------------------------------------------------ people and groups

  /** The name of the user whom somebody has typed, as the account has it. @param {string} typed @returns {Promise<string>} */
  async nameOf(typed) {
    return (await this.client.request("history", { with: typed, limit: 1 })).with;
  }

  /** Ask somebody to become a friend. @param {string} name */
  async askFriend(name) {
    await this.client.friends.request(name);
    await this.#loadFriends();
  }

  /** Answer a request. @param {string} name @param {boolean} accepts */
  async answer(name, accepts) {
    await (accepts ? this.client.friends.accept(name) : this.client.friends.refuse(name));
    await this.#loadFriends();
  }

  /** @param {string} name */
  async unfriend(name) {
    await this.client.friends.remove(name);
    await this.#loadFriends();
  }

  /** The key of the new group. @param {string} name @returns {Promise<string>} */
  async createGroup(name) {
    const group = await this.client.groups.create(name);
    await this.#loadGroups();
    return `#${group.id}`;
  }

  /** joined false: the owner or an admin decides. @param {number} group */
  async joinGroup(group) {
    const done = await this.client.groups.join(group);
    await this.#loadGroups();
    return done;
  }

  /** @param {number} group */
  async declineGroup(group) {
    await this.client.groups.decline(group);
    await this.#loadGroups();
  }

  /** The user is no member any more. @param {number} group */
  async leftGroup(group) {
    this.conversations.delete(`#${group}`);
    if (this.shown?.key === `#${group}`) this.show("");
    await this.#loadGroups();
  }

  // ------------------------------------------------------------ conversations

  /** @param {string} key @returns {Conversation} */
  conversation(key) {
    let one = this.conversations.get(key);
    if (one === undefined) {
      one = new Conversation(this, key);
      this.conversations.set(key, one);
    }
    return one;
  }

  /** The latest first. */
  get listed() {
    return [...this.conversations.values()].sort((one, other) => other.time - one.time || one.key.localeCompare(other.key));
  }

  get unread() {
    let sum = 0;
    for (const one of this.conversations.values()) sum += one.unread;
    return sum;
  }

  /** @param {string} key "" = none */
  show(key) {
    this.shown = key === "" ? null : this.conversation(key);
    this.changed();
  }
}
