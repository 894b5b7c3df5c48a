// The wires the generator speaks: what a client writes, and what it needs to see in a server's frames.
//
// String search in place of a JSON parser: the generator must cost far less than the server it measures. It relies on
// compact JSON (no spaces around colons), which every server measured here writes.

#pragma once

#include <arpa/inet.h>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <string_view>

using std::string, std::string_view;

// ------------------------------------------------------------------ users

// Declared by OpenSSL.
struct ssl_st;

struct User {
    string name;
    int index = 0, partner = 0, fd = -1, outstanding = 0;
    bool ready = false, closed = false, dirty = false, want_write = false;
    uint64_t sent = 0;      // messages sent: the next one's number
    uint64_t expected = 0;  // the number of the next message from the partner
    std::set<uint64_t> skipped;  // numbers of the partner's that were overtaken and have not come
    std::set<uint64_t> refused;  // numbers of our own that the server refused
    uint64_t connected_ns = 0, last_write_ns = 0;
    string in, out;
    ssl_st* tls = nullptr;  // with --tls: OpenSSL's state of the connection
};

// What a server's frame means to the generator.
enum class Kind { login_ok, login_refused, message, acknowledged, refused, other };

string_view text_after(string_view frame, string_view key) {
    size_t start = frame.find(key);
    if (start == string_view::npos) return {};
    start += key.size();
    return frame.substr(start, frame.find('"', start) - start);
}

uint64_t number_after(string_view frame, string_view key) {
    size_t start = frame.find(key);
    if (start == string_view::npos) return ~0ull;
    start += key.size();
    uint64_t number = ~0ull;
    std::from_chars(frame.data() + start, frame.data() + frame.size(), number);
    return number;
}

// ------------------------------------------------------------------ wires

struct Wire {
    virtual ~Wire() = default;
    virtual void login(User& user) = 0;
    virtual void message(User& from, const User& to, const string& body, const string& fp) = 0;
    virtual void keep_alive(User& user) = 0;
    // The length of the first whole frame in `bytes` including its framing, 0 if there is none; `frame` is its JSON.
    virtual size_t cut(string_view bytes, string_view& frame) = 0;
    virtual Kind kind(string_view frame) = 0;
    // Answers a message whose sender asked for it.
    virtual void acknowledge(User& by, string_view frame) = 0;
};

struct MobileImsdk : Wire {
    virtual void put(User& user, string_view frame) {
        uint32_t length = htonl(frame.size());
        user.out.append(reinterpret_cast<char*>(&length), 4);
        user.out.append(frame);
    }

    void login(User& user) override {
        put(user, R"({"bridge":false,"type":0,"dataContent":"{\"loginUserId\":\")" + user.name +
                      R"(\",\"loginToken\":\"x\",\"firstLoginTime\":0)" + asks + R"(}","from":")" + user.name +
                      R"(","to":"0","QoS":false,"typeu":-1,"sm":-1})");
    }

    // What the login asks for besides, as members of its content.
    string asks;

    void message(User& from, const User& to, const string& body, const string& fp) override {
        common_data(from, to.name, body, fp, true);
    }

    // `to`: a user, "#<group>", or "0", the server. body: as it is in a JSON string.
    void common_data(User& from, const string& to, const string& body, const string& fp, bool qos) {
        put(from, R"({"bridge":false,"type":2,"dataContent":")" + body + R"(","from":")" + from.name + R"(","to":")" + to +
                      R"(","fp":")" + fp + (qos ? R"(","QoS":true,"typeu":-1,"sm":-1})" : R"(","QoS":false,"typeu":-1,"sm":-1})"));
    }

    void keep_alive(User& user) override {
        put(user, R"({"bridge":false,"type":1,"dataContent":"{}","from":")" + user.name +
                      R"(","to":"0","QoS":false,"typeu":-1,"sm":-1})");
    }

    size_t cut(string_view bytes, string_view& frame) override {
        if (bytes.size() < 4) return 0;
        uint32_t length;
        memcpy(&length, bytes.data(), 4);
        length = ntohl(length);
        if (bytes.size() - 4 < length) return 0;
        frame = bytes.substr(4, length);
        return 4 + length;
    }

    Kind kind(string_view frame) override {
        switch (number_after(frame, "\"type\":")) {
        case 2: return Kind::message;
        case 4: return Kind::acknowledged;
        case 50: return frame.find(R"(\"code\":0,)") != string_view::npos ? Kind::login_ok : Kind::login_refused;
        case 52: case 54: return Kind::refused;
        default: return Kind::other;
        }
    }

    void acknowledge(User& by, string_view frame) override {
        if (frame.find("\"QoS\":true") == string_view::npos) return;
        put(by, R"({"bridge":false,"type":4,"dataContent":")" + string(text_after(frame, "\"fp\":\"")) + R"(","from":")" + by.name +
                    R"(","to":")" + string(text_after(frame, "\"from\":\"")) + R"(","QoS":false,"typeu":-1,"sm":-1})");
    }
};

// The same packets as text frames. The login follows the HTTP request at once; its answer passes as a frame that says
// nothing.
struct MobileImsdkWs : MobileImsdk {
    void login(User& user) override {
        user.out.append("GET /websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
        MobileImsdk::login(user);
    }

    void put(User& user, string_view frame) override {
        size_t size = frame.size();
        user.out.push_back('\x81');
        if (size < 126) user.out.push_back(char(0x80 | size));
        else user.out.append({char(0x80 | 126), char(size >> 8), char(size)});
        next_mask = next_mask * 1664525 + 1013904223;
        char mask[4];
        memcpy(mask, &next_mask, 4);
        user.out.append(mask, 4);
        size_t start = user.out.size();
        user.out.append(frame);
        for (size_t i = 0; i < size; i++) user.out[start + i] ^= mask[i & 3];
    }

    size_t cut(string_view bytes, string_view& frame) override {
        if (bytes.starts_with("HTTP/1.1 101")) {
            size_t end = bytes.find("\r\n\r\n");
            frame = {};
            return end == string_view::npos ? 0 : end + 4;
        }
        if (bytes.size() < 4) return 0;
        size_t size = uint8_t(bytes[1]), head = 2;
        if (size == 126) size = uint8_t(bytes[2]) << 8 | uint8_t(bytes[3]), head = 4;
        if (bytes.size() < head + size) return 0;
        frame = bytes.substr(head, size);
        return head + size;
    }

    uint32_t next_mask = 1;
};

// As the page in a browser logs in, and at the listener that serves it.
struct Page : MobileImsdkWs {
    Page() {
        asks = R"(,\"extra\":\"{\\\"chatd\\\":{\\\"features\\\":[\\\"seq\\\",\\\"typing\\\",\\\"delivered\\\"]}}\")";
    }
};

// Streaming mode, names in place of ids. There is nothing a recipient could acknowledge, and no keep-alive.
struct Chatserver : Wire {
    static void put(User& user, string_view frame) {
        user.out.append(frame);
        user.out.push_back('\0');
    }

    void login(User& user) override {
        put(user, R"({"msgid":1,"name":")" + user.name + R"(","password":"x","framing":"nul"})");
    }

    void message(User& from, const User& to, const string& body, const string& fp) override {
        put(from, R"({"msgid":6,"toname":")" + to.name + R"(","msg":")" + body + R"(","fp":")" + fp + R"("})");
    }

    void keep_alive(User&) override {}

    size_t cut(string_view bytes, string_view& frame) override {
        size_t end = bytes.find('\0');
        if (end == string_view::npos) return 0;
        frame = bytes.substr(0, end);
        return end + 1;
    }

    Kind kind(string_view frame) override {
        switch (number_after(frame, "\"msgid\":")) {
        case 2: return number_after(frame, "\"errno\":") == 0 ? Kind::login_ok : Kind::login_refused;
        case 6: return Kind::message;
        case 12: return Kind::refused;
        case 13: return Kind::acknowledged;
        default: return Kind::other;
        }
    }

    void acknowledge(User&, string_view) override {}
};
