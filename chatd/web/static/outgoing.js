/**
 * Messages with files that wait: the files are uploaded first, and kept until the message is stored.
 *
 * Owns: Outgoing: what IndexedDB keeps of them over reloads and restarts, and the order of uploads.
 * Elsewhere: uploading one file (chatd.js), the message itself (conversation.js), which the client keeps as every other.
 * Fails: upload() with what the client throws. A browser that keeps nothing loses them with the page, and no sooner.
 *
 * @module outgoing
 */

import { isPicture } from "./files.js";

/** One message. files without their blobs, which are in a store of their own.
 * @typedef {{fp: string, to: string, text: string, reply?: number, writtenAt: number, files: import("./files.js").Staged[]}} Kept */

/** @template T @param {IDBRequest<T>|IDBTransaction} request @returns {Promise<T>} */
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onerror = request.onabort = () => reject(request.error);
    if (request instanceof IDBTransaction) request.oncomplete = () => resolve(undefined);
    else request.onsuccess = () => resolve(request.result);
  });

export class Outgoing {
  #client;
  #name;
  /** @type {IDBDatabase|null} */
  #database = null;
  /** One file at a time, so that the first message is complete first. @type {Promise<unknown>} */
  #turn = Promise.resolve();
  /** By fp. @type {Map<string, AbortController>} */
  #stops = new Map();

  /** @param {import("./chatd.js").Client} client @param {string} name of server and user */
  constructor(client, name) {
    this.#client = client;
    this.#name = `chatd files:${name}`;
  }

  /** What an earlier page has left, in order. Only the page that has the journal may call it. @returns {Promise<Kept[]>} */
  async open() {
    try {
      const opening = indexedDB.open(this.#name, 1);
      opening.onupgradeneeded = () => ["messages", "blobs"].forEach((name) => opening.result.createObjectStore(name));
      this.#database = await settled(opening);
      return (await this.#all()).sort((one, other) => one.writtenAt - other.writtenAt);
    } catch (error) {
      console.warn(error);
      return [];
    }
  }

  async #all() {
    const stores = this.#database.transaction(["messages", "blobs"]);
    const kept = await settled(stores.objectStore("messages").getAll());
    for (const { fp, files } of kept) {
      for (const [at, one] of files.entries()) one.blob = await settled(stores.objectStore("blobs").get([fp, at]));
    }
    for (const { files } of kept) for (const one of files) one.url = isPicture(one) ? URL.createObjectURL(one.blob) : "";
    return kept.filter(({ files }) => files.every((one) => one.blob));
  }

  /** @param {(stores: {messages: IDBObjectStore, blobs: IDBObjectStore}) => void} work */
  async #write(work) {
    if (this.#database === null) return;
    try {
      const stores = this.#database.transaction(["messages", "blobs"], "readwrite", { durability: "strict" });
      work({ messages: stores.objectStore("messages"), blobs: stores.objectStore("blobs") });
      await settled(stores);
    } catch (error) {
      console.warn(error);
    }
  }

  /** Before it is sent. @param {Kept} message */
  async keep(message) {
    await this.#write(({ messages, blobs }) => {
      this.#put(messages, message);
      message.files.forEach(({ blob }, at) => blobs.put(blob, [message.fp, at]));
    });
  }

  #put(messages, { fp, to, text, reply, writtenAt, files }) {
    const plain = files.map(({ key, name, type, size, width, height, id, done }) => ({ key, name, type, size, width, height, id, done }));
    messages.put({ fp, to, text, reply, writtenAt, files: plain }, fp);
  }

  /** It is stored, or discarded. @param {Kept} message */
  async forget({ fp, files }) {
    await this.#write(({ messages, blobs }) => {
      messages.delete(fp);
      files.forEach((_, at) => blobs.delete([fp, at]));
    });
  }

  /** The ids of its files, once they are uploaded. @param {Kept} message @param {() => void} moved is told of progress */
  async upload(message, moved) {
    const stop = new AbortController();
    this.#stops.set(message.fp, stop);
    try {
      for (const file of message.files) {
        if (file.done) continue;
        const turn = this.#turn.then(() => this.#one(message, file, stop.signal, moved));
        this.#turn = turn.catch(() => {});
        await turn;
      }
    } finally {
      this.#stops.delete(message.fp);
    }
    return message.files.map(({ done }) => done.id);
  }

  async #one(message, file, signal, moved) {
    signal.throwIfAborted();
    const changed = () => this.#write(({ messages }) => this.#put(messages, message));
    const onbegin = async (id) => {
      file.id = id;
      await changed();
    };
    const onprogress = (sent) => {
      file.sent = sent;
      moved();
    };
    file.done = await this.#client.files.upload(file.blob, { name: file.name, type: file.type, file: file.id, signal, onbegin, onprogress });
    file.sent = file.size;
    await changed();
    moved();
  }

  /** Stop the upload; the server forgets what it has of the files. @param {Kept} message */
  async cancel(message) {
    this.#stops.get(message.fp)?.abort();
    await this.forget(message);
    for (const { id } of message.files) if (id) this.#client.files.cancel(id).catch(() => {}); // it is removed in time
  }
}
