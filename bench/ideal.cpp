// ideal PORT: the limit a chat server can be compared with, on the mobileimsdk TCP wire.
//
// One thread, epoll, string search in place of JSON. It forwards and acknowledges, and does nothing else: no store,
// no accounts, no limits, no log. What it delivers per second on a machine is what the sockets alone cost there.

#include <arpa/inet.h>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <unordered_map>
#include <vector>

namespace {

struct Connection {
    int fd = -1;
    std::string in = {};    // bytes of an incomplete frame
    std::string out = {};   // what leaves at the end of this turn
    std::string user = {};  // who logged in, "" before
    bool dirty = false;
    bool dead = false;
};

std::unordered_map<std::string, Connection*> users;
std::vector<Connection*> dirty;

std::string_view text_after(std::string_view frame, std::string_view key) {
    size_t start = frame.find(key);
    if (start == std::string_view::npos) return {};
    start += key.size();
    return frame.substr(start, frame.find('"', start) - start);
}

int type_of(std::string_view frame) {
    size_t at = frame.find("\"type\":");
    return at == std::string_view::npos ? -1 : atoi(frame.data() + at + 7);
}

void put(Connection& to, std::string_view frame) {
    uint32_t length = htonl(frame.size());
    to.out.append(reinterpret_cast<char*>(&length), 4);
    to.out.append(frame);
    if (!to.dirty) {
        to.dirty = true;
        dirty.push_back(&to);
    }
}

void log_in(Connection& from, std::string_view frame) {
    from.user = text_after(frame, "\"from\":\"");
    users[from.user] = &from;
    put(from, R"({"type":50,"dataContent":"{\"code\":0,\"firstLoginTime\":1}","from":"0","to":")" + from.user + "\"}");
}

void forward(Connection& from, std::string_view frame) {
    std::string to(text_after(frame, "\"to\":\""));
    if (auto found = users.find(to); found != users.end()) put(*found->second, frame);
    put(from, R"({"bridge":false,"type":4,"dataContent":")" + std::string(text_after(frame, "\"fp\":\"")) + R"(","from":")" + to +
                  R"(","to":")" + from.user + R"(","QoS":false,"typeu":-1,"sm":-1})");
}

void serve(Connection& from, std::string_view frame) {
    switch (type_of(frame)) {
    case 0: log_in(from, frame); break;
    case 2: forward(from, frame); break;
    case 1: put(from, R"({"type":51,"dataContent":"{}","from":"0","to":")" + from.user + "\"}"); break;
    default: break;  // a recipient's acknowledgement: there is nothing to forget
    }
}

void end(Connection& connection) {
    if (auto found = users.find(connection.user); found != users.end() && found->second == &connection) users.erase(found);
    close(connection.fd);
    connection.dead = true;
    if (!connection.dirty) delete &connection;  // else flush() does
}

void read_from(Connection& from) {
    static std::vector<char> buffer(1 << 18);
    ssize_t got = recv(from.fd, buffer.data(), buffer.size(), 0);
    if (got <= 0) return end(from);
    from.in.append(buffer.data(), got);
    size_t at = 0;
    while (from.in.size() - at >= 4) {
        uint32_t length;
        memcpy(&length, from.in.data() + at, 4);
        length = ntohl(length);
        if (from.in.size() - at - 4 < length) break;
        serve(from, std::string_view(from.in).substr(at + 4, length));
        at += 4 + length;
    }
    from.in.erase(0, at);
}

// Leaves in `dirty` those whose peer takes no more now; the next turn tries again.
void flush() {
    std::vector<Connection*> turn;
    turn.swap(dirty);
    for (Connection* to : turn) {
        to->dirty = false;
        if (to->dead) {
            delete to;
            continue;
        }
        ssize_t sent = send(to->fd, to->out.data(), to->out.size(), MSG_NOSIGNAL);
        if (sent > 0) to->out.erase(0, sent);
        if (!to->out.empty()) {
            to->dirty = true;
            dirty.push_back(to);
        }
    }
}

int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 || listen(listener, 4096) < 0) {
        perror("ideal: listen");
        exit(71);
    }
    return listener;
}

void accept_from(int listener, int poll) {
    int one = 1, fd = accept(listener, nullptr, nullptr);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_event event{EPOLLIN, {.ptr = new Connection{fd}}};
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: ideal PORT\n");
        return 64;
    }
    rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);

    int listener = listen_on(atoi(argv[1])), poll = epoll_create1(0);
    epoll_event listening{EPOLLIN, {.ptr = nullptr}};
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &listening);
    std::vector<epoll_event> events(1024);
    for (;;) {
        int count = epoll_wait(poll, events.data(), events.size(), dirty.empty() ? -1 : 1);
        for (int i = 0; i < count; i++) {
            if (auto* connection = static_cast<Connection*>(events[i].data.ptr)) read_from(*connection);
            else accept_from(listener, poll);
        }
        flush();
    }
}
