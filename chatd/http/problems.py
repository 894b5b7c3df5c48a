"""Refusals as HTTP says them: application/problem+json (RFC 9457), made from the codes of chatd.errors.

Owns: STATUSES, the HTTP status of each code; HttpRefused, a refusal with something that only HTTP has; Problem, the
body of every answer that is not a success.
Elsewhere: the codes and their texts (chatd.errors).
Fails: never.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from chatd.errors import ErrorCode, Refused, meaning

CONTENT_TYPE = b"application/problem+json"
RETRY_AFTER_S = 1
"""Of a temporary error that does not say more."""

STATUSES: dict[ErrorCode, HTTPStatus] = {
    ErrorCode.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.INVALID_PACKET: HTTPStatus.BAD_REQUEST,
    ErrorCode.NOT_LOGGED_IN: HTTPStatus.UNAUTHORIZED,
    ErrorCode.BAD_CREDENTIALS: HTTPStatus.FORBIDDEN,
    ErrorCode.ALREADY_LOGGED_IN: HTTPStatus.CONFLICT,
    ErrorCode.NAME_TAKEN: HTTPStatus.CONFLICT,
    ErrorCode.NAME_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.PASSWORD_NOT_ALLOWED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.REGISTRATION_CLOSED: HTTPStatus.FORBIDDEN,
    ErrorCode.CLAIMED_IDENTITY: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_RECIPIENT: HTTPStatus.NOT_FOUND,
    ErrorCode.NOT_A_MEMBER: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_GROUP: HTTPStatus.NOT_FOUND,
    ErrorCode.TOO_LONG: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.BAD_FIELD: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.UNKNOWN_REQUEST: HTTPStatus.NOT_FOUND,
    ErrorCode.TOO_FAST: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    ErrorCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.LIMIT_REACHED: HTTPStatus.CONFLICT,
    ErrorCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    ErrorCode.FP_REUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.TOO_MANY_ATTEMPTS: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.ACCOUNT_LOCKED: HTTPStatus.FORBIDDEN,
    ErrorCode.INVITE_NEEDED: HTTPStatus.FORBIDDEN,
    ErrorCode.TLS_NEEDED: HTTPStatus.FORBIDDEN,
    ErrorCode.NOT_ACCEPTED: HTTPStatus.FORBIDDEN,
    ErrorCode.BLOCKED_BY_YOU: HTTPStatus.FORBIDDEN,
    ErrorCode.MUTED: HTTPStatus.FORBIDDEN,
    ErrorCode.ANNOUNCEMENTS_ONLY: HTTPStatus.FORBIDDEN,
    ErrorCode.MAILBOX_FULL: HTTPStatus.TOO_MANY_REQUESTS,
    ErrorCode.BANNED: HTTPStatus.FORBIDDEN,
    ErrorCode.INVITATION_NEEDED: HTTPStatus.FORBIDDEN,
    ErrorCode.APPROVAL_PENDING: HTTPStatus.CONFLICT,
    ErrorCode.UNKNOWN_MESSAGE: HTTPStatus.NOT_FOUND,
    ErrorCode.TOO_LATE: HTTPStatus.CONFLICT,
    ErrorCode.UNKNOWN_KEY: HTTPStatus.UNAUTHORIZED,
    ErrorCode.SCOPE_MISSING: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_ROUTE: HTTPStatus.NOT_FOUND,
    ErrorCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ErrorCode.UNKNOWN_CONTENT_TYPE: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.NOT_JSON: HTTPStatus.BAD_REQUEST,
    ErrorCode.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    ErrorCode.TOKEN_EXPIRED: HTTPStatus.FORBIDDEN,
    ErrorCode.UNKNOWN_WEBHOOK: HTTPStatus.NOT_FOUND,
    ErrorCode.UNKNOWN_FILE: HTTPStatus.NOT_FOUND,
    ErrorCode.FILE_TYPE_NOT_ALLOWED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ErrorCode.FILE_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ErrorCode.QUOTA_REACHED: HTTPStatus.CONFLICT,
    ErrorCode.OFFSET_MISMATCH: HTTPStatus.CONFLICT,
    ErrorCode.FILE_DAMAGED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ErrorCode.CODE_NEEDED: HTTPStatus.FORBIDDEN,
    ErrorCode.WRONG_CODE: HTTPStatus.FORBIDDEN,
}
"""Every code has one."""
OF_A_PLUGIN = HTTPStatus.FORBIDDEN
"""The status of a code that is a plug-in's own."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an answer that is not a success contains.

    type: `urn:chatd:error:` and the name of the error. title: what the error means. status: the HTTP status. detail:
    what it is this time. code: the number of the error, the same as on the other protocols. field: which field of the
    body or of the query is meant, as a JSON path such as `$.to`. retry_after_s: when to try again, if that may help.
    """

    type: str
    title: str
    status: int
    code: int
    detail: str = ""
    field: str = ""
    retry_after_s: int | None = None


class HttpRefused(Refused):
    """A refusal that HTTP says in its own way. status: in place of the one of STATUSES. field: see Problem. headers: of
    the answer."""

    def __init__(
        self,
        code: ErrorCode,
        text: str = "",
        *,
        status: HTTPStatus | None = None,
        field: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(code, text)
        self.status = status
        self.field = field
        self.headers = headers


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer as it is sent. headers: content-type and content-length included."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


_encode = msgspec.json.Encoder().encode


def problem(refused: Refused) -> Problem:
    """As the body of an answer."""
    known = refused.code in _KNOWN
    code = ErrorCode(refused.code) if known else None
    status = getattr(refused, "status", None) or (STATUSES[code] if code is not None else OF_A_PLUGIN)
    means = meaning(refused.code)
    return Problem(
        type=f"urn:chatd:error:{code.name.lower() if code is not None else 'plug_in'}",
        title=means.text,
        status=int(status),
        code=int(refused.code),
        detail="" if refused.text == means.text else refused.text,
        field=getattr(refused, "field", ""),
        retry_after_s=refused.retry_after_s or (RETRY_AFTER_S if means.temporary else None),
    )


_KNOWN = frozenset(ErrorCode)


def answer_of(refused: Refused) -> Answer:
    """The answer that says it."""
    said = problem(refused)
    body = _encode(said)
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(body))]
    if said.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % said.retry_after_s))
    headers += getattr(refused, "headers", ())
    return Answer(said.status, headers, body)


def raw(refused: Refused) -> bytes:
    """The same as the bytes of a whole HTTP answer, after which the connection is closed."""
    answer = answer_of(refused)
    lines = [b"HTTP/1.1 %d %s" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
    lines += [name + b": " + value for name, value in answer.headers]
    return b"\r\n".join((*lines, b"connection: close", b"", answer.body))
