/**
 * Files before they are sent and after they have come: what may be sent, and addresses from which they are loaded.
 *
 * Owns: staging a file, what it is refused for before it is uploaded, sizes as people read them, Links.
 * Elsewhere: messages that wait for their files (outgoing.js), drawing (attachments.js).
 * Fails: Links with what the client throws.
 *
 * @module files
 */

import { language, t } from "./texts.js";

/** Media types that browsers show as pictures, and that the server serves as such. */
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/** Pictures with more pixels are not shown: a small file may unfold to more than the memory of a telephone. */
const MOST_PIXELS = 50e6;
/** The longest name, in characters and in bytes. */
const NAME_CHARS = 120;
const NAME_BYTES = 255;
/** An address is not used any more when it has less than this left, ms. */
const SPARE_MS = 60000;

/**
 * @typedef {object} Staged a file that is not sent yet
 * @property {string} key by which it is drawn
 * @property {string} name
 * @property {string} type
 * @property {number} size
 * @property {number} [width] of a picture
 * @property {number} [height]
 * @property {Blob} blob
 * @property {string} url under which the page shows a picture, or ""
 * @property {string} [id] the server knows it
 * @property {number} [sent] bytes
 * @property {import("./chatd.js").Attachment} [done] it is uploaded
 */

/** Whether it is shown, and not only offered. @param {{type: string, width?: number, height?: number}} file */
export const isPicture = ({ type, width = 0, height = 0 }) => PICTURES.includes(type) && width > 0 && height > 0 && width * height <= MOST_PIXELS;

/** A size for people. @param {number} bytes */
export function sizeOf(bytes) {
  const [unit, value] = [["byte", 1], ["kilobyte", 1e3], ["megabyte", 1e6], ["gigabyte", 1e9]].findLast(([, one]) => bytes >= one) ?? ["byte", 1];
  return new Intl.NumberFormat(language(), { style: "unit", unit, maximumFractionDigits: unit === "byte" ? 0 : 1 }).format(bytes / value);
}

/** A message in one line: its text, or the names of its files. @param {{text: string, files?: {name: string}[]}} message */
export const lineOf = ({ text, files = [] }) => text || files.map((one) => t("files.line", { name: one.name })).join(" ");

/** A name that the server takes, with its ending. @param {string} name */
function shortened(name) {
  const at = name.lastIndexOf(".");
  const ending = at > 0 && name.length - at <= 12 ? name.slice(at) : "";
  let start = [...(ending ? name.slice(0, at) : name)].slice(0, NAME_CHARS - ending.length);
  while (new TextEncoder().encode(start.join("") + ending).length > NAME_BYTES) start = start.slice(0, -1);
  return start.join("") + ending;
}

/** The type as the server takes it. @param {Blob} blob */
const typeOf = (blob) => blob.type.split(";")[0].trim().toLowerCase() || "application/octet-stream";

/** @param {string} type @param {string[]} types of the server */
const isTaken = (type, types) => types.some((one) => one === "*/*" || one === type || (one.endsWith("/*") && type.startsWith(one.slice(0, -1))));

/** Why the server would not take it; "" = it would.
 * @param {File} file @param {import("./chatd.js").FileLimits} limits @param {number} bytes that are staged already */
function whyNot(file, limits, bytes) {
  const { name, size } = file;
  if (size === 0) return t("files.empty", { name });
  if (size > limits.max_bytes) return t("files.too_large", { name, size: sizeOf(limits.max_bytes) });
  if (!isTaken(typeOf(file), limits.types)) return t("files.wrong_type", { name });
  if (limits.quota_bytes > 0 && limits.used_bytes + bytes + size > limits.quota_bytes) return t("files.no_space", { name, size: sizeOf(limits.quota_bytes) });
  return "";
}

/** The size of a picture as it is shown. @param {Blob} blob */
async function measured(blob) {
  if (!PICTURES.includes(blob.type)) return {};
  try {
    const picture = await createImageBitmap(blob);
    const { width, height } = picture;
    picture.close();
    return { width, height };
  } catch {
    return {}; // it is called a picture; the server looks closer
  }
}

/** The file as it is now, whatever becomes of it on the disk until it is uploaded; null: it cannot be read.
 * @param {File} file @returns {Promise<Staged|null>} */
async function copied(file) {
  try {
    const type = typeOf(file);
    const blob = new Blob([await file.arrayBuffer()], { type });
    const about = { name: shortened(file.name), type, size: blob.size, ...(await measured(blob)) };
    return { key: crypto.randomUUID(), ...about, blob, url: isPicture(about) ? URL.createObjectURL(blob) : "" };
  } catch {
    return null;
  }
}

/** Files that somebody has chosen, dropped or pasted, as far as the server takes them; and why not the others.
 * @param {Iterable<File>} files @param {Staged[]} staged @param {import("./chatd.js").FileLimits} limits
 * @returns {Promise<{taken: Staged[], told: string[]}>} */
export async function stage(files, staged, limits) {
  const taken = [];
  const told = [];
  for (const file of files) {
    if (staged.length + taken.length >= limits.per_message) {
      told.push(t("files.too_many", { count: limits.per_message }));
      break;
    }
    const bytes = [...staged, ...taken].reduce((sum, one) => sum + one.size, 0);
    const why = whyNot(file, limits, bytes);
    if (why) told.push(why);
    else {
      const made = await copied(file);
      made ? taken.push(made) : told.push(t("files.unreadable", { name: file.name }));
    }
  }
  return { taken, told };
}

/** They are not shown any more. @param {Staged[]} [files] */
export const released = (files = []) => files.forEach(({ url }) => url && URL.revokeObjectURL(url));

/** Files in a transfer by pasting or dropping; none if there is text as well, which is meant then.
 * @param {DataTransfer} transfer @returns {File[]} */
export function filesOf(transfer) {
  if (transfer.types.includes("text/plain")) return [];
  const items = [...transfer.items].filter((one) => one.kind === "file" && !one.webkitGetAsEntry?.()?.isDirectory);
  return items.map((one) => one.getAsFile()).filter((one) => one !== null);
}

/** Addresses of the files of messages, asked for once while they are good. */
export class Links {
  #client;
  /** By message. @type {Map<string, Promise<{urls: Map<string, string>, expires: number}>>} */
  #known = new Map();
  /** @param {import("./chatd.js").Client} client */
  constructor(client) {
    this.#client = client;
  }

  /** @param {{conversation: string, seq: number}} message @param {string} file its id @returns {Promise<string>} */
  async url(message, file) {
    const key = `${message.conversation} ${message.seq}`;
    const known = await this.#known.get(key)?.catch(() => null);
    const url = known && known.expires - SPARE_MS > Date.now() ? known.urls.get(file) : undefined;
    if (url !== undefined) return url;
    const asked = this.#client.files.links(message.conversation, message.seq);
    this.#known.set(key, asked);
    asked.catch(() => this.forget(message));
    return (await asked).urls.get(file) ?? "";
  }

  /** Ask again next time. @param {{conversation: string, seq: number}} message */
  forget({ conversation, seq }) {
    this.#known.delete(`${conversation} ${seq}`);
  }
}
