/**
 * Every text of the page, in every language.
 *
 * Owns: TABLE, addTexts(), the choice of a language, t(), and times as people write them. Fails: a key without a text is shown as
 * it is, which a test finds.
 *
 * @module texts
 */

/** By key: the texts in the order of LANGUAGES. {name} is replaced by an argument. */
const TABLE = {
  "app.title": ["chatd", "chatd"],
  "app.connecting": ["Connecting…", "正在连接…"],
  "app.waiting": ["No connection. Trying again…", "连接已断开，正在重试…"],
  "app.close": ["Close", "关闭"],
  "app.cancel": ["Cancel", "取消"],
  "app.save": ["Save", "保存"],
  "app.back": ["Back", "返回"],
  "login.title": ["Log in", "登录"],
  "login.name": ["Name", "用户名"],
  "login.password": ["Password", "密码"],
  "login.token": ["Token", "令牌"],
  "login.register": ["Make an account", "注册"],
  "login.repeat": ["Repeat the password", "重复密码"],
  "login.invite": ["Invite code", "邀请码"],
  "login.differs": ["The two passwords are not the same.", "两次输入的密码不一致。"],
  "login.stay": ["Stay logged in", "保持登录"],
  "login.has_account": ["I have an account", "已有账号"],
  "login.no_account": ["I have no account yet", "还没有账号"],
  "login.over": ["Your login has ended. Log in again.", "登录已失效，请重新登录。"],
  "login.submit": ["Log in", "登录"],
  "login.wrong": ["The name or the password is wrong.", "用户名或密码错误。"],
  "login.unreachable": ["The server does not answer.", "服务器没有响应。"],
  "login.logout": ["Log out", "退出登录"],
  "ended.duplicate": ["You have logged in elsewhere.", "您已在其他地方登录。"],
  "ended.admin": ["The server has ended this session.", "服务器已结束此会话。"],
  "ended.take_over": ["Continue here", "在此处继续"],
  "list.title": ["Conversations", "会话"],
  "list.empty": ["No conversations yet. Write to somebody.", "还没有会话，给某人发条消息吧。"],
  "list.new": ["New conversation", "新会话"],
  "list.to": ["Name of the person", "对方的用户名"],
  "list.unread": ["{count} unread", "{count} 条未读"],
  "list.you": ["You: {text}", "我：{text}"],
  "thread.none": ["Choose a conversation.", "请选择一个会话。"],
  "thread.write": ["Write to {name}", "发消息给 {name}"],
  "thread.too_long": ["This text is too long: {bytes} of at most {most} bytes. Shorten it, or send it in parts.", "文本过长：{bytes} 字节，最多 {most} 字节。请缩短或分条发送。"],
  "thread.send": ["Send", "发送"],
  "thread.earlier": ["Loading earlier messages…", "正在加载更早的消息…"],
  "thread.beginning": ["The beginning of the conversation", "会话的开头"],
  "thread.recalled": ["This message was recalled.", "此消息已被撤回。"],
  "thread.removed": ["This message was removed.", "此消息已被删除。"],
  "thread.edited": ["edited", "已编辑"],
  "thread.typing": ["{name} is writing…", "{name} 正在输入…"],
  "thread.latest": ["To the latest message", "回到最新消息"],
  "thread.search": ["Find in this conversation", "在此会话中查找"],
  "thread.found": ["{count} found", "找到 {count} 条"],
  "thread.messages": ["Messages with {name}", "与 {name} 的消息"],
  "state.waiting": ["waiting", "等待发送"],
  "state.stored": ["stored", "已存到服务器"],
  "state.delivered": ["delivered", "已送达"],
  "state.read": ["read", "已读"],
  "state.failed": ["not sent: {why}", "未发送：{why}"],
  "state.again": ["Send again", "重新发送"],
  "state.discard": ["Discard", "放弃"],
  "message.copy": ["Copy", "复制"],
  "message.edit": ["Edit", "编辑"],
  "message.recall": ["Recall", "撤回"],
  "message.reply": ["Reply", "回复"],
  "message.actions": ["Actions for the message", "消息操作"],
  "presence.online": ["online", "在线"],
  "presence.offline": ["offline", "离线"],
  "presence.seen": ["last seen {when}", "上次在线 {when}"],
  "files.attach": ["Attach files", "添加附件"],
  "files.chosen": ["Files to send", "待发送的文件"],
  "files.remove": ["Do not send {name}", "移除 {name}"],
  "files.line": ["[{name}]", "[{name}]"],
  "files.open": ["Show {name} large", "查看大图 {name}"],
  "files.download": ["Download", "下载"],
  "files.download_name": ["Download {name}", "下载 {name}"],
  "files.before": ["Previous", "上一张"],
  "files.after": ["Next", "下一张"],
  "files.progress": ["Upload", "上传进度"],
  "files.of": ["{sent} of {size}", "{sent} / {size}"],
  "files.gone": ["This file is no longer available.", "此文件已不可用。"],
  "files.unreachable": ["It cannot be loaded now. Try again.", "暂时无法加载，请重试。"],
  "files.empty": ["{name} is empty.", "{name} 是空文件。"],
  "files.unreadable": ["{name} cannot be read.", "无法读取 {name}。"],
  "files.too_large": ["{name} is too large: at most {size}.", "{name} 太大，最多 {size}。"],
  "files.wrong_type": ["{name}: files of this type cannot be sent here.", "{name}：此处不能发送该类型的文件。"],
  "files.no_space": ["There is no space left for {name}: your files may take {size}.", "空间不足，无法发送 {name}：您的文件最多可占用 {size}。"],
  "files.too_many": ["At most {count} files go with a message.", "每条消息最多 {count} 个文件。"],
  "app.loading": ["Loading…", "正在加载…"],
  "people.title": ["People", "联系人"],
  "people.friends": ["Friends", "好友"],
  "people.none": ["No friends yet.", "还没有好友。"],
  "people.requests": ["Would like to be your friends", "好友请求"],
  "people.accept": ["Accept", "接受"],
  "people.refuse": ["Decline", "拒绝"],
  "people.ask": ["Ask to be friends", "加为好友"],
  "people.remove": ["Remove", "删除"],
  "people.remove_really": ["Remove {name} from your friends?", "要将 {name} 从好友中删除吗？"],
  "people.blocked": ["Blocked", "已屏蔽"],
  "people.block": ["Block", "屏蔽"],
  "people.unblock": ["Unblock", "取消屏蔽"],
  "groups.title": ["Groups", "群组"],
  "groups.none": ["No groups yet.", "还没有群组。"],
  "groups.invitations": ["Invitations", "邀请"],
  "groups.invited_by": ["from {name}", "来自 {name}"],
  "groups.name": ["Name of a new group", "新群组的名称"],
  "groups.create": ["Create", "创建"],
  "groups.number": ["Number of a group", "群组编号"],
  "groups.number_wrong": ["A group is named by its number, such as 12.", "请输入群组编号，例如 12。"],
  "groups.join": ["Join", "加入"],
  "groups.asked": ["You have asked to join. The owner or an admin decides.", "已申请加入，等待群主或管理员处理。"],
  "groups.details": ["Members and rules", "成员与规则"],
  "groups.rename": ["New name", "新名称"],
  "groups.members": ["Members ({count})", "成员（{count}）"],
  "groups.role.owner": ["owner", "群主"],
  "groups.role.admin": ["admin", "管理员"],
  "groups.role.member": ["member", "成员"],
  "groups.muted": ["muted", "已禁言"],
  "groups.make_admin": ["Make admin", "设为管理员"],
  "groups.make_member": ["Make member", "设为成员"],
  "groups.make_owner": ["Make owner", "转让群主"],
  "groups.make_owner_really": ["Make {name} the owner? You become an admin.", "要将群主转让给 {name} 吗？您将成为管理员。"],
  "groups.mute": ["Mute", "禁言"],
  "groups.unmute": ["Unmute", "解除禁言"],
  "groups.kick": ["Remove", "移出"],
  "groups.kick_really": ["Remove {name} from the group?", "要将 {name} 移出群组吗？"],
  "groups.requests": ["Ask to join", "入群申请"],
  "groups.approve": ["Let in", "同意"],
  "groups.reject": ["Decline", "拒绝"],
  "groups.bans": ["Banned", "已禁止加入"],
  "groups.unban": ["Unban", "解除禁止"],
  "groups.invite": ["Invite", "邀请"],
  "groups.rules": ["Rules", "规则"],
  "groups.how_to_join": ["How people join", "加入方式"],
  "groups.join.open": ["everybody may join", "任何人都可以加入"],
  "groups.join.approval": ["after approval", "需要批准"],
  "groups.join.invite": ["by invitation", "仅限邀请"],
  "groups.past": ["New members read", "新成员可以查看"],
  "groups.history.all": ["the whole history", "全部历史消息"],
  "groups.history.joining": ["from their joining on", "加入之后的消息"],
  "groups.announcements": ["Only the owner and admins write", "仅群主和管理员可以发言"],
  "groups.leave": ["Leave the group", "退出群组"],
  "groups.leave_really": ["Leave the group?", "要退出群组吗？"],
  "groups.dissolve": ["End the group", "解散群组"],
  "groups.dissolve_really": ["End the group for all its members?", "要为所有成员解散群组吗？"],
  "settings.title": ["Settings", "设置"],
  "settings.notifications": ["Notify me of messages while I look at something else", "离开页面时通知我新消息"],
  "settings.push": ["Notify me when I am away", "我不在线时通知我"],
  "settings.push_denied": ["The browser does not allow it for this page", "浏览器不允许此页面发送通知"],
  "settings.push_failed": ["The browser cannot subscribe", "浏览器无法订阅通知"],
  "settings.profile": ["Profile", "个人资料"],
  "settings.nickname": ["Nickname", "昵称"],
  "settings.status": ["Status", "状态"],
  "settings.about": ["About you", "关于您"],
  "settings.saved": ["Saved.", "已保存。"],
  "settings.privacy": ["Privacy", "隐私"],
  "settings.may.write": ["Who may write to you", "谁可以给您发消息"],
  "settings.may.ask": ["Who may ask to be your friend", "谁可以向您发送好友请求"],
  "settings.may.see": ["Who sees your profile and presence", "谁可以查看您的资料和在线状态"],
  "settings.may.add": ["Who may add you to groups", "谁可以将您加入群组"],
  "settings.default": ["as usual ({what})", "默认（{what}）"],
  "settings.everybody": ["everybody", "所有人"],
  "settings.contacts": ["contacts", "联系过的人"],
  "settings.friends": ["friends", "好友"],
  "settings.nobody": ["nobody", "没有人"],
  "settings.sessions": ["Where you are logged in", "登录的设备"],
  "settings.this_session": ["this session", "当前会话"],
  "settings.end_session": ["End", "结束"],
  "settings.password": ["Password", "密码"],
  "settings.old_password": ["Present password", "当前密码"],
  "settings.new_password": ["New password", "新密码"],
  "settings.change": ["Change the password", "修改密码"],
  "settings.language": ["Language", "语言"],
  "settings.theme": ["Appearance", "外观"],
  "settings.theme.system": ["as the system", "跟随系统"],
  "settings.theme.light": ["light", "浅色"],
  "settings.theme.dark": ["dark", "深色"],
};

/** As in the lang attribute of the page. */
export const LANGUAGES = ["en", "zh"];
const KEY = "chatd.language";

let current = chosen();

function chosen() {
  const wanted = [localStorage.getItem(KEY), ...navigator.languages].map((one) => (one ?? "").slice(0, 2));
  return wanted.find((one) => LANGUAGES.includes(one)) ?? "en";
}

/** The language of the page. */
export const language = () => current;

/** Remembered for the next visit. @param {string} language one of LANGUAGES */
export function setLanguage(language) {
  current = language;
  localStorage.setItem(KEY, language);
  document.documentElement.lang = language;
}

/** Texts of another page. @param {Record<string, string[]>} more as TABLE */
export const addTexts = (more) => void Object.assign(TABLE, more);

/** The text in the present language. @param {string} key @param {Record<string, string|number>} [values] */
export function t(key, values = {}) {
  const text = TABLE[key]?.[LANGUAGES.indexOf(current)] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

/** The beginning of a text, in whole characters. @param {string} text @param {number} most UTF-16 units */
export const cut = (text, most) => text.slice(0, most).replace(/[\ud800-\udbff]$/, "");

/** The time of day. @param {number} ms */
export const time = (ms) => new Date(ms).toLocaleTimeString(current, { hour: "2-digit", minute: "2-digit" });

/** The day, without the year if it is this one. @param {number} ms */
export function day(ms) {
  const date = new Date(ms);
  const year = date.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return date.toLocaleDateString(current, { weekday: "short", day: "numeric", month: "long", year });
}

/** Short, for a list: the time today, the day before that. @param {number} ms */
export const when = (ms) => (new Date(ms).toDateString() === new Date().toDateString() ? time(ms) : day(ms));
