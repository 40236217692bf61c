import Foundation

/// A server with its data in a temporary directory, kept by a shell that stops it and removes the directory when the
/// pipe from this process closes: at its end, whatever the reason.
struct ThrowawayServer: Sendable {
    let connectionString: String
    /// The pipe's end that must stay open.
    let lifeline: FileHandle?

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Blocks until the server answers.
    static func start() throws -> ThrowawayServer {
        let shell = Process()
        shell.executableURL = URL(fileURLWithPath: "/bin/sh")
        shell.arguments = ["-c", script]
        let (input, output) = (Pipe(), Pipe())
        _ = fcntl(input.fileHandleForWriting.fileDescriptor, F_SETFD, FD_CLOEXEC)
        shell.standardInput = input
        shell.standardOutput = output
        try shell.run()
        var answer = Data()
        while answer.last != UInt8(ascii: "\n") {
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { throw Failure(description: "no test server; see the messages above") }
            answer += more
        }
        let directory = String(decoding: answer.dropLast(), as: UTF8.self)
        return ThrowawayServer(
            connectionString: "host=\(directory) user=signalbox dbname=postgres",
            lifeline: input.fileHandleForWriting)
    }

    /// Prints the directory of the socket when the server answers. Postgres refuses to run as root.
    private static let script = #"""
        set -eu
        trap '' INT TERM HUP
        bin=
        for candidate in "$(pg_config --bindir 2>/dev/null || :)" \
            $(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null \
                | sort -rV); do
            if [ -x "$candidate/initdb" ]; then bin=$candidate; break; fi
        done
        if [ -z "$bin" ]; then echo "install the PostgreSQL server to run these tests" >&2; exit 1; fi
        dir=$(mktemp -d /tmp/signalbox-test.XXXXXX)
        as=
        if [ "$(id -u)" = 0 ]; then
            user=postgres
            chown "$user" "$dir"
            as="setpriv --reuid=$(id -u $user) --regid=$(id -g $user) --clear-groups"
        fi
        cd "$dir"
        pid=
        finish() {
            if [ -n "$pid" ]; then kill -QUIT "$pid" 2>/dev/null || :; wait "$pid" || :; fi
            cd /; rm -rf "$dir"
        }
        trap finish EXIT
        $as "$bin/initdb" -D "$dir/data" -U signalbox -A trust -E UTF8 --locale=C --no-sync >"$dir/log" 2>&1 \
            || { cat "$dir/log" >&2; exit 1; }
        $as "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c max_connections=200 \
            >"$dir/log" 2>&1 </dev/null &
        pid=$!
        tries=0
        until "$bin/pg_isready" -q -h "$dir"; do
            tries=$((tries + 1))
            if [ "$tries" -gt 300 ] || ! kill -0 "$pid"; then cat "$dir/log" >&2; exit 1; fi
            sleep 0.1
        done
        echo "$dir"
        exec >/dev/null
        cat
        """#
}
