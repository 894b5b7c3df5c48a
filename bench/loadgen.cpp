// loadgen: many chat clients in one thread, to measure a server.
//
//   loadgen --port P[,P...] [--wire mobileimsdk|mobileimsdk-udp|mobileimsdk-ws|page|chatserver] [--users N] [--prefix NAME]
//           [--window N | --rate R | --idle] [--payload BYTES] [--warm S] [--seconds S]
//           [--logins-per-s R] [--burst N] [--pairs stdin] [--tls]
//
// Users NAME0, NAME1 ... log in with any token (the server must have open logins), all from one address; of several
// ports, each the next user's, so that partners are on different hosts where there are two. Then
//   --window N   every user keeps N messages on their way to its partner (a closed loop; the default, with N = 4)
//   --rate R     all together send R messages per second, whatever comes back (an open loop)
//   --idle       nobody sends anything but keep-alives
// Partners are 2k and 2k+1, or with `--pairs stdin` what the reader of the first line answers: one line with every
// user's partner, in order. Logins leave as fast as --burst unanswered ones allow, or --logins-per-s of them.
//
// Output: four JSON lines, as each phase begins: ready (everybody is logged in; local ports, login figures),
// measure (the warm-up is over), stop (the measuring is over), end (the figures). Latency is from the moment a message should have left to its
// arrival, in microseconds. After the end nobody sends and everything still on its way is waited for. `lost` counts
// what neither came nor was refused, `reordered` and `repeated` what came out of order or twice, `refused` errors from
// the server, `closed` connections it ended.

#include <functional>

#include "crowd.hpp"

namespace {

class Generator : Crowd {
public:
    using Crowd::Crowd;

    void run() {
        log_everybody_in();
        if (o.pairs_from_stdin) read_pairs();
        if (!o.idle) talk(o.warm);
        begin_measuring();
        talk(o.seconds);
        end_measuring();
        settle();
        print_figures(lost());
    }

private:
    void read_pairs() {
        for (User& user : users)
            if (scanf("%d", &user.partner) != 1 || user.partner < 0 || user.partner >= o.users) die("bad pairs on stdin", 64);
        for (User& user : users)
            if (users[user.partner].partner != user.index) die("the pairs on stdin are not mutual", 64);
    }

    // ---------------------------------------------------------- talking

    // For `seconds`, in the way the options say.
    void talk(double seconds) {
        uint64_t end = now_ns() + uint64_t(seconds * second_ns);
        if (o.rate > 0 && next_send_ns == 0) next_send_ns = now_ns();
        if (!o.idle && o.rate <= 0)
            for (User& user : users) fill_window(user);
        while (now_ns() < end) {
            uint64_t until = std::min(end, now_ns() + second_ns / 10);
            if (o.rate > 0) until = std::min(until, send_what_is_due());
            turn(until);
            if (o.idle) keep_everybody_alive();
        }
    }

    void fill_window(User& user) override {
        if (stopped || o.idle || o.rate > 0 || user.closed) return;
        while (user.outstanding < o.window) send_message(user, now_ns());
    }

    // Returns when the next message is due.
    uint64_t send_what_is_due() {
        uint64_t step = uint64_t(second_ns / o.rate), now = now_ns();
        for (; next_send_ns <= now; next_send_ns += step) {
            User& user = users[next_sender++ % users.size()];
            if (!user.closed) send_message(user, next_send_ns);
        }
        return next_send_ns;
    }

    void send_message(User& from, uint64_t due_ns) {
        string fp = fp_of(from, from.sent);
        string body = "tt:" + to_string(due_ns) + ";n:" + to_string(from.sent++) + ";";
        if (int(body.size()) < o.payload) body.append(o.payload - body.size(), 'x');
        wire->message(from, users[from.partner], body, fp);
        from.outstanding++;
        figures.sent++;
        touch(from);
    }

    void keep_everybody_alive() {
        uint64_t now = now_ns();
        for (User& user : users)
            if (!user.closed && now - user.last_write_ns > keep_alive_ns) {
                wire->keep_alive(user);
                touch(user);
                user.last_write_ns = now;
            }
    }

    // ---------------------------------------------------------- what comes back

    void arrived(User& user, string_view frame) override {
        uint64_t due_ns = number_after(frame, "tt:"), number = number_after(frame, ";n:");
        wire->acknowledge(user, frame);
        if (number < user.expected && !user.skipped.erase(number)) {
            figures.repeated++;
            return;
        }
        figures.reordered += number < user.expected;
        for (; user.expected <= number; user.expected++)
            if (user.expected < number) user.skipped.insert(user.expected);
        if (measuring) {
            figures.delivered++;
            figures.latency_us.push_back(uint32_t(std::min<uint64_t>((now_ns() - due_ns) / 1000, ~0u)));
        }
        User& sender = users[user.partner];
        if (!sender.refused.contains(number)) room(sender);
    }

    void acknowledged(User&, string_view) override { figures.acknowledged += measuring; }

    // A message may be refused because the store is slow, and be delivered after all.
    void refused(User& user, string_view frame) override {
        if (figures.refused++ == 0) fprintf(stderr, "loadgen: refused: %.*s\n", int(frame.size()), frame.data());
        uint64_t number = number_in(frame);
        if (number == ~0ull) return;
        user.refused.insert(number);
        room(user);
    }

    // Messages to this user that neither came nor were refused.
    uint64_t lost(const User& user) const {
        const User& sender = users[user.partner];
        auto excused = [&](uint64_t number) { return sender.refused.contains(number); };
        uint64_t count = std::count_if(user.skipped.begin(), user.skipped.end(), std::not_fn(excused));
        for (uint64_t number = user.expected; number < sender.sent; number++) count += !excused(number);
        return count;
    }

    uint64_t lost() const {
        uint64_t count = 0;
        for (const User& user : users) count += lost(user);
        return count;
    }

    void settle() {
        uint64_t end = now_ns() + settle_ns;
        while (lost() && now_ns() < end) turn(now_ns() + second_ns / 100);
    }

    uint64_t next_send_ns = 0, next_sender = 0;
};

}  // namespace

int main(int argc, char** argv) {
    Options options = parse(argc, argv);
    raise_descriptor_limit();
    Generator(options).run();
}
