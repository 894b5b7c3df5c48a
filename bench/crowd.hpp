// Many chat clients in one thread: connections, logging in, the turn of the loop, the phases of a measurement.
//
// What they say to each other is a program's own: loadgen.cpp, fanout.cpp.

#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <memory>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "figures.hpp"
#include "options.hpp"
#include "wires.hpp"

using std::to_string, std::vector;

constexpr uint64_t second_ns = 1'000'000'000;
constexpr uint64_t login_deadline_ns = 120 * second_ns;
constexpr uint64_t settle_ns = 5 * second_ns;       // how long the last messages may take
constexpr uint64_t keep_alive_ns = 10 * second_ns;  // silence after which a client says something
constexpr int events_at_once = 1024;
constexpr size_t fp_chars = 36;  // of a UUID: run_id, user, number

inline uint64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * second_ns + t.tv_nsec;
}

// User and system time of this process so far.
inline double own_cpu_s() {
    rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

inline void raise_descriptor_limit() {
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

class Crowd {
public:
    explicit Crowd(const Options& o) : o(o), users(o.users), poll(epoll_create1(0)), events(events_at_once), buffer(1 << 18) {
        datagrams = o.wire == "mobileimsdk-udp";
        if (o.wire == "mobileimsdk" || datagrams) wire = std::make_unique<MobileImsdk>();
        else if (o.wire == "mobileimsdk-ws") wire = std::make_unique<MobileImsdkWs>();
        else if (o.wire == "page") wire = std::make_unique<Page>();
        else if (o.wire == "chatserver") wire = std::make_unique<Chatserver>();
        else die("unknown wire " + o.wire, 64);
        for (int i = 0; i < o.users; i++) {
            users[i].index = i;
            users[i].partner = i ^ 1;
            users[i].name = o.prefix + to_string(i);
        }
        char started[17];
        snprintf(started, sizeof started, "%016lx", static_cast<unsigned long>(now_ns()));
        run_id = started;
    }

    virtual ~Crowd() = default;

protected:
    // What a program does with what comes back, and with room in a window. It may put() and touch(), no more.
    virtual void arrived(User& user, string_view frame) = 0;
    virtual void acknowledged(User& user, string_view frame) = 0;
    virtual void refused(User& user, string_view frame) = 0;
    virtual void fill_window(User& user) = 0;

    // One of this user's messages is no longer on its way; the window is filled at the end of the turn.
    void room(User& sender) {
        sender.outstanding--;
        hungry.push_back(sender.index);
    }

    void turned() {
        for (int index : hungry) fill_window(users[index]);
        hungry.clear();
    }

    // The unique id of a user's message.
    string fp_of(const User& from, uint64_t number) const {
        char fp[fp_chars + 1];
        snprintf(fp, sizeof fp, "%s-%08x-%010lx", run_id.c_str(), from.index, static_cast<unsigned long>(number));
        return fp;
    }

    // The number in the fp of this run that a frame names; the largest there is when it names none.
    uint64_t number_in(string_view frame) const {
        size_t fp = frame.find(run_id);
        if (fp == string_view::npos || frame.size() < fp + fp_chars) return ~0ull;
        return std::stoull(string(frame.substr(fp + 26, 10)), nullptr, 16);
    }

    // ---------------------------------------------------------- logging in

    void log_everybody_in() {
        uint64_t start = now_ns();
        int opened = 0;
        while (ready + int(figures.closed) < o.users) {
            if (now_ns() - start > login_deadline_ns) die("only " + to_string(ready) + " logged in", 69);
            while (opened < o.users && may_open(opened, start)) open(users[opened++]);
            turn(now_ns() + second_ns / 1000);
        }
        if (figures.closed) die("connections were closed at login: " + to_string(figures.closed), 69);
        print_ready((now_ns() - start) / 1e9);
    }

    bool may_open(int opened, uint64_t start) {
        if (o.logins_per_s > 0) return opened < (now_ns() - start) / 1e9 * o.logins_per_s;
        return opened - ready - int(figures.closed) < o.burst;
    }

    void open(User& user) {
        int one = 1;
        user.fd = socket(AF_INET, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
        sockaddr_in server{};
        server.sin_family = AF_INET;
        server.sin_port = htons(o.ports[user.index % o.ports.size()]);
        server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        user.connected_ns = now_ns();
        if (user.fd < 0 || connect(user.fd, reinterpret_cast<sockaddr*>(&server), sizeof server) < 0)
            die(string("connect: ") + strerror(errno), 69);
        if (!datagrams) setsockopt(user.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (o.tls) shake_hands(user);
        fcntl(user.fd, F_SETFL, O_NONBLOCK);
        epoll_event event{EPOLLIN, {.u32 = uint32_t(user.index)}};
        epoll_ctl(poll, EPOLL_CTL_ADD, user.fd, &event);
        wire->login(user);
        touch(user);
    }

    // The handshake waits for the server, so logins come one by one. The certificate is not verified.
    void shake_hands(User& user) {
        if (!context) {
            context = SSL_CTX_new(TLS_client_method());
            SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
        }
        user.tls = SSL_new(context);
        SSL_set_fd(user.tls, user.fd);
        if (SSL_connect(user.tls) != 1) die("the TLS handshake failed", 69);
    }

    // As recv() and send(), with errno EAGAIN where the socket must be waited for.
    ssize_t receive_bytes(User& user) {
        if (!user.tls) return recv(user.fd, buffer.data(), buffer.size(), 0);
        ssize_t got = 0;  // one record at a time: until nothing is left, since epoll does not see what OpenSSL holds
        while (got < ssize_t(buffer.size())) {
            int piece = SSL_read(user.tls, buffer.data() + got, int(buffer.size() - got));
            if (piece <= 0) return got ? got : failed(user, piece);
            got += piece;
        }
        return got;
    }

    ssize_t send_bytes(User& user) {
        if (!user.tls) return send(user.fd, user.out.data(), user.out.size(), MSG_NOSIGNAL);
        int sent = SSL_write(user.tls, user.out.data(), int(user.out.size()));
        return sent > 0 ? sent : failed(user, sent);
    }

    static ssize_t failed(User& user, int result) {
        int why = SSL_get_error(user.tls, result);
        ERR_clear_error();
        if (why == SSL_ERROR_ZERO_RETURN) return 0;
        errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
        return -1;
    }

    void print_ready(double login_s) {
        printf("{\"phase\":\"ready\",\"users\":%d,\"login_s\":%.3f,\"logins_per_s\":%.0f,%s,\"ports\":[", ready, login_s,
               ready / login_s, percentiles(login_us).c_str());
        for (User& user : users) {
            sockaddr_in local{};
            socklen_t size = sizeof local;
            getsockname(user.fd, reinterpret_cast<sockaddr*>(&local), &size);
            printf("%s%d", user.index ? "," : "", ntohs(local.sin_port));
        }
        printf("]}\n");
        fflush(stdout);
    }

    void receive(User& user, string_view frame) {
        switch (wire->kind(frame)) {
        case Kind::message: return arrived(user, frame);
        case Kind::acknowledged: return acknowledged(user, frame);
        case Kind::login_ok:
            if (!user.ready) ready++;
            user.ready = true;
            login_us.push_back(uint32_t((now_ns() - user.connected_ns) / 1000));
            return;
        case Kind::login_refused: die("login refused: " + string(frame), 69);
        case Kind::refused: return refused(user, frame);
        case Kind::other: return;
        }
    }

    // ---------------------------------------------------------- one turn of the loop

    void turn(uint64_t until_ns) {
        flush();
        uint64_t now = now_ns(), wait = until_ns > now ? until_ns - now : 0;
        timespec timeout{time_t(wait / second_ns), long(wait % second_ns)};
        int count = epoll_pwait2(poll, events.data(), events.size(), &timeout, nullptr);
        for (int i = 0; i < count; i++) {
            User& user = users[events[i].data.u32];
            if (user.closed) continue;
            if (events[i].events & EPOLLOUT) touch(user);
            if (events[i].events & ~EPOLLOUT) read_from(user);
        }
        turned();
        flush();
    }

    void read_from(User& user) {
        if (datagrams) return read_datagrams(user);
        ssize_t got = receive_bytes(user);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) return close_of(user);
        last_read_ns = now_ns();
        figures.reads += measuring;
        string_view bytes(buffer.data(), got);
        if (!user.in.empty()) bytes = user.in.append(bytes);
        string_view frame;
        while (size_t length = wire->cut(bytes, frame)) {
            receive(user, frame);
            bytes.remove_prefix(length);
        }
        user.in = string(bytes);
        if (!user.out.empty()) write_to(user);  // a client acknowledges at once, apart from what its user types
    }

    void read_datagrams(User& user) {
        ssize_t got;
        while ((got = recv(user.fd, buffer.data(), buffer.size(), 0)) > 0) receive(user, string_view(buffer.data(), got));
        if (got < 0 && errno != EAGAIN && errno != ECONNREFUSED) return close_of(user);
        if (!user.out.empty()) write_to(user);
    }

    // Every packet without its length is a datagram. What the kernel does not take is lost, as on a network.
    void write_datagrams(User& user) {
        string_view bytes = user.out, frame;
        while (size_t length = wire->cut(bytes, frame)) {
            if (send(user.fd, frame.data(), frame.size(), 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED) return close_of(user);
            bytes.remove_prefix(length);
        }
        if (o.idle && !user.out.empty()) user.last_write_ns = now_ns();
        user.out.clear();
    }

    void touch(User& user) {
        if (user.dirty) return;
        user.dirty = true;
        dirty.push_back(user.index);
    }

    void flush() {
        for (int index : dirty) {
            users[index].dirty = false;
            if (!users[index].closed) write_to(users[index]);
        }
        dirty.clear();
    }

    void write_to(User& user) {
        if (datagrams) return write_datagrams(user);
        if (!user.out.empty()) {
            ssize_t sent = send_bytes(user);
            if (sent < 0 && errno != EAGAIN) return close_of(user);
            if (sent > 0) user.out.erase(0, sent);
            if (o.idle) user.last_write_ns = now_ns();
        }
        if (bool more = !user.out.empty(); more != user.want_write) {
            user.want_write = more;
            epoll_event event{EPOLLIN | (more ? uint32_t(EPOLLOUT) : 0u), {.u32 = uint32_t(user.index)}};
            epoll_ctl(poll, EPOLL_CTL_MOD, user.fd, &event);
        }
    }

    void close_of(User& user) {
        close(user.fd);
        user.closed = true;
        figures.closed++;
    }

    // ---------------------------------------------------------- measuring

    void begin_measuring() {
        measuring = true;
        measure_start_ns = now_ns();
        cpu_before_s = own_cpu_s();
        printf("{\"phase\":\"measure\"}\n");
        fflush(stdout);
    }

    void end_measuring() {
        measuring = false;
        measured_s = (now_ns() - measure_start_ns) / 1e9;
        busy = (own_cpu_s() - cpu_before_s) / measured_s;
        stopped = true;
        printf("{\"phase\":\"stop\"}\n");
        fflush(stdout);
    }

    // The figures every program has. generator_busy: its share of one core while measuring; near 1 it is the limit.
    // per_read: messages that one read of a client brought, on average; 0 on UDP.
    void print_figures(uint64_t lost) {
        Figures& f = figures;
        printf("{\"phase\":\"end\",\"seconds\":%.3f,\"delivered\":%lu,\"per_s\":%.0f,\"acknowledged\":%lu,%s,\"sent\":%lu,"
               "\"lost\":%lu,\"reordered\":%lu,\"repeated\":%lu,\"refused\":%lu,\"closed\":%lu,\"generator_busy\":%.3f,\"per_read\":%.2f}\n",
               measured_s, f.delivered, f.delivered / measured_s, f.acknowledged, percentiles(f.latency_us).c_str(), f.sent,
               lost, f.reordered, f.repeated, f.refused, f.closed, busy, f.reads ? double(f.delivered) / f.reads : 0.);
        fflush(stdout);
    }

    const Options o;
    SSL_CTX* context = nullptr;  // with --tls
    std::unique_ptr<Wire> wire;
    vector<User> users;
    vector<int> dirty;   // have something to write
    vector<int> hungry;  // may have room in their window
    int poll, ready = 0;
    vector<epoll_event> events;
    vector<char> buffer;
    vector<uint32_t> login_us;
    Figures figures;
    bool measuring = false, stopped = false, datagrams = false;
    string run_id;  // the first 16 characters of every fp
    uint64_t measure_start_ns = 0, last_read_ns = 0;
    double measured_s = 0, cpu_before_s = 0, busy = 0;
};
