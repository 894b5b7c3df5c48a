/**
 * Why the server refuses, in every language.
 *
 * Owns: Problem, reasonOf(). Elsewhere: what the codes mean (docs/protocols/errors.md), the choice of a language (texts.js).
 * Fails: never; of a code that is not here, such as a plug-in's, people see what the server says.
 *
 * @module refusals
 */

import { language, LANGUAGES } from "./texts.js";

const UNREACHABLE = ["the server does not answer", "服务器没有响应。"];
const ENDED = ["this session has ended", "此会话已结束。"];

/** Errors of the page's own modules, by name: the texts in the order of LANGUAGES. */
const OWN = {
  Unreachable: UNREACHABLE,
  NoAnswer: UNREACHABLE,
  NotAcknowledged: UNREACHABLE,
  SessionEnded: ENDED,
  Kicked: ENDED,
  ClientClosed: ENDED,
  JournalUnusable: ["another page of this browser uses the messages that are kept here", "此浏览器的另一个页面正在使用本地保存的消息。"],
  Overloaded: ["too much waits to be sent or answered", "等待发送或应答的内容过多。"],
};

/** Refusals, by code. */
const TABLE = {
  2: ["unknown error", "未知错误。"],
  4: ["invalid packet", "数据包无效。"],
  301: ["not logged in", "尚未登录。"],
  1025: ["unknown user or wrong password", "用户名或密码错误。"],
  1026: ["this account is already logged in", "此账号已在其他地方登录。"],
  1027: ["this name is taken", "该用户名已被占用。"],
  1028: ["this name is not allowed", "不允许使用该名称。"],
  1029: ["this password is not allowed", "不允许使用该密码。"],
  1030: ["registration is closed on this server", "此服务器不开放注册。"],
  1031: ["the sender is not the user logged in", "发送者不是当前登录的用户。"],
  1032: ["no such user", "没有此用户。"],
  1033: ["you are not a member of this group", "您不是此群的成员。"],
  1034: ["no such group", "没有此群。"],
  1035: ["too long", "内容过长。"],
  1036: ["a field is missing or has the wrong type", "缺少字段或字段类型错误。"],
  1037: ["unknown request", "未知的请求。"],
  1038: ["too many requests", "操作过于频繁，请稍后再试。"],
  1039: ["not allowed", "没有权限。"],
  1040: ["the server cannot store this now, try again", "服务器暂时无法保存，请重试。"],
  1041: ["the server is busy, try again", "服务器繁忙，请重试。"],
  1042: ["a limit of this server is reached", "已达到服务器的限制。"],
  1043: ["internal error", "服务器内部错误。"],
  1044: ["this fp was already used for something else: send it again with a new fp", "此编号已用于其他请求，请用新编号重新发送。"],
  1045: ["too many attempts, try again later", "尝试次数过多，请稍后再试。"],
  1046: ["this account is locked", "此账号已被锁定。"],
  1047: ["an invite code is needed to register, and this one is not valid", "注册需要有效的邀请码。"],
  1048: ["this needs a connection with TLS", "需要使用 TLS 加密连接。"],
  1049: ["this user does not accept this from you", "对方不接受您的此操作。"],
  1050: ["you have blocked this user", "您已屏蔽此用户。"],
  1051: ["you may not write in this group at the moment", "您目前不能在此群发言。"],
  1052: ["only the owner and the admins write in this group", "此群只有群主和管理员可以发言。"],
  1053: ["too many messages wait for this user, try again later", "对方的未读消息过多，请稍后再试。"],
  1054: ["you cannot join this group again unless you are invited", "您已被禁止加入此群，除非再次受到邀请。"],
  1055: ["this group is joined by invitation", "此群需要邀请才能加入。"],
  1056: ["you have asked to join: the owner or an admin of the group decides", "已提交入群申请，等待群主或管理员批准。"],
  1057: ["no such message", "没有此消息。"],
  1058: ["it is too late to change this message", "已超过可以修改此消息的时间。"],
  1059: ["no valid key was given", "没有提供有效的密钥。"],
  1060: ["the key does not have the scope that this needs", "密钥缺少所需的权限。"],
  1061: ["there is nothing at this path", "此路径不存在。"],
  1062: ["this path does not have this method", "此路径不支持该方法。"],
  1063: ["the body must be application/json", "请求正文必须是 application/json。"],
  1064: ["the body is not JSON", "请求正文不是 JSON。"],
  1065: ["the request did not arrive in time", "请求未能及时到达。"],
  1066: ["this login token has expired: log in with a fresh one", "登录令牌已过期，请用新令牌登录。"],
  1067: ["no such webhook", "没有此 webhook。"],
  1068: ["no such file, or it cannot be used for this", "没有此文件，或文件不能用于此处。"],
  1069: ["files of this type are not accepted here", "此服务器不接受这种类型的文件。"],
  1070: ["this file is too large", "文件过大。"],
  1071: ["your files would take more space than you have", "您的文件总量超出了配额。"],
  1072: ["the file does not continue at this offset", "文件不能从该位置继续上传。"],
  1073: ["the content is not the one that was announced", "内容与声明的不一致。"],
  1074: ["this needs a code of the second factor that was not used before", "需要一个未使用过的二次验证码。"],
  1075: ["this code is wrong, or was used before", "验证码错误，或已被使用。"],
};

/** What a call over HTTP fails with. code: as in docs/protocols/errors.md; 0 = no server has spoken. */
export class Problem extends Error {
  /** @param {string} text @param {number} code */
  constructor(text, code) {
    super(text);
    this.name = code ? "Problem" : "Unreachable";
    this.code = code;
  }
}

/** What has failed, for a person. What the server says is shown, too, where it is more exact than the table.
 * @param {any} error */
export function reasonOf(error) {
  const said = error?.message || String(error);
  const isNumbered = !(error instanceof DOMException); // whose codes are others
  const texts = OWN[error?.name] ?? (isNumbered ? TABLE[error?.code] : undefined);
  if (texts === undefined || language() === LANGUAGES[0]) return said;
  const text = texts[LANGUAGES.indexOf(language())];
  return said === texts[0] ? text : `${text} (${said})`;
}
