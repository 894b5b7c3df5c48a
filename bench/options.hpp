// What a generator is asked to do; the heads of loadgen.cpp and fanout.cpp explain it.

#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using std::string;

[[noreturn]] inline void die(const string& why, int code) {
    fprintf(stderr, "%s: %s\n", program_invocation_short_name, why.c_str());
    exit(code);
}

struct Options {
    string wire = "mobileimsdk", prefix = "u";
    std::vector<int> ports;  // user i connects to the one at i modulo their number
    int users = 200, window = 4, payload = 64, burst = 200;
    double rate = 0, seconds = 5, warm = 1, logins_per_s = 0;
    bool idle = false, pairs_from_stdin = false, tls = false;
    int senders = 4, group = 0;  // fanout's own, as is the next
    bool qos = true;
};

// Whether `name` is an option of fanout alone, and what it says.
inline bool parse_fanout(Options& o, const string& name, const string& value) {
    if (name == "--senders") o.senders = atoi(value.c_str());
    else if (name == "--group") o.group = atoi(value.c_str());
    else if (name == "--qos" && (value == "true" || value == "false")) o.qos = value == "true";
    else return false;
    return true;
}

inline std::vector<int> parse_ports(const string& list) {
    std::vector<int> ports;
    for (size_t at = 0; at <= list.size(); at = list.find(',', at) == string::npos ? list.size() + 1 : list.find(',', at) + 1)
        ports.push_back(atoi(list.c_str() + at));
    return ports;
}

inline Options parse(int argc, char** argv, bool fanout = false) {
    Options o;
    for (int i = 1; i < argc; i++) {
        string name = argv[i];
        if (name == "--idle") {
            o.idle = true;
            continue;
        }
        if (name == "--tls") {
            o.tls = true;
            continue;
        }
        if (i + 1 >= argc) die(name + " needs a value, or is unknown", 64);
        string value = argv[++i];
        if (name == "--wire") o.wire = value;
        else if (name == "--prefix") o.prefix = value;
        else if (name == "--port") o.ports = parse_ports(value);
        else if (name == "--users") o.users = atoi(value.c_str());
        else if (name == "--window") o.window = atoi(value.c_str());
        else if (name == "--payload") o.payload = atoi(value.c_str());
        else if (name == "--burst") o.burst = atoi(value.c_str());
        else if (name == "--rate") o.rate = atof(value.c_str());
        else if (name == "--seconds") o.seconds = atof(value.c_str());
        else if (name == "--warm") o.warm = atof(value.c_str());
        else if (name == "--logins-per-s") o.logins_per_s = atof(value.c_str());
        else if (name == "--pairs" && value == "stdin") o.pairs_from_stdin = true;
        else if (!fanout || !parse_fanout(o, name, value)) die("unknown option " + name, 64);
    }
    if (o.ports.empty() || o.users < 2 || o.users % 2) die("--port and an even number of --users are needed", 64);
    for (int port : o.ports)
        if (port <= 0 || port > 65535) die("--port is PORT[,PORT...]", 64);
    if (fanout && (o.senders < 1 || o.senders > o.users)) die("--senders must be some of the users", 64);
    return o;
}
