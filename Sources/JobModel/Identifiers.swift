package import FoundationEssentials
internal import Synchronization

/// A job's id: a UUID, made by the server (version 7) or given by the caller.
package struct JobID: Sendable, Hashable, CustomStringConvertible {
    package let uuid: UUID

    package init(_ uuid: UUID) {
        self.uuid = uuid
    }

    /// Parses the form of 36 characters; nil for any other text.
    package init?(_ text: some StringProtocol) {
        // Foundation accepts a space instead of a digit.
        guard text.utf8.count == 36, text.utf8.allSatisfy({ $0 > 0x20 }),
            let uuid = UUID(uuidString: String(text))
        else { return nil }
        self.uuid = uuid
    }

    /// Makes a UUID of version 7 (RFC 9562, section 5.7): milliseconds since 1970 in the first 48 bits, so that
    /// later ids sort later, and 74 random bits.
    package static func version7(milliseconds: Int64, random: (UInt64, UInt64)) -> JobID {
        let high = UInt64(milliseconds) << 16 | 0x7000 | (random.0 & 0x0FFF)
        let low = 0x8000_0000_0000_0000 | (random.1 & 0x3FFF_FFFF_FFFF_FFFF)
        var bytes: uuid_t = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        withUnsafeMutableBytes(of: &bytes) { target in
            target.storeBytes(of: high.bigEndian, toByteOffset: 0, as: UInt64.self)
            target.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return JobID(UUID(uuid: bytes))
    }

    private static let sequence = Mutex(JobIDSequence())

    package static func version7(at moment: Timestamp) -> JobID {
        sequence.withLock { sequence in
            sequence.next(milliseconds: moment.microseconds / 1000) {
                (UInt64.random(in: .min ... .max), UInt64.random(in: .min ... .max))
            }
        }
    }

    /// The form of 36 characters, in lower case. Foundation's own is slower, because it uses `snprintf`, and in
    /// upper case.
    package var description: String {
        let digits: StaticString = "0123456789abcdef"
        return withUnsafeBytes(of: uuid.uuid) { bytes in
            String(unsafeUninitializedCapacity: 36) { text in
                var index = 0
                for (number, byte) in bytes.enumerated() {
                    if number == 4 || number == 6 || number == 8 || number == 10 {
                        text[index] = UInt8(ascii: "-")
                        index += 1
                    }
                    text[index] = digits.utf8Start[Int(byte >> 4)]
                    text[index + 1] = digits.utf8Start[Int(byte & 15)]
                    index += 2
                }
                return index
            }
        }
    }
}

/// Makes ids of version 7. Within a millisecond, they count up from a random number by a random step (RFC 9562,
/// section 6.2, method 2). So ids sort in the order in which they were made, and random numbers, which cost a
/// system call each, are drawn once per millisecond.
package struct JobIDSequence: Sendable {
    private var milliseconds: Int64?
    private var random: (UInt64, UInt64) = (0, 0)

    package init() {}

    package mutating func next(milliseconds now: Int64, random draw: () -> (UInt64, UInt64)) -> JobID {
        // The step has 32 random bits that are not part of the id. The ids of a millisecond stay far below the
        // maximum.
        let next = (random.1 & Self.mask) + (random.0 >> 32 | 1)
        if now == milliseconds, next <= Self.mask {
            random.1 = next
        } else {
            milliseconds = now
            random = draw()
        }
        return .version7(milliseconds: now, random: random)
    }

    private static let mask: UInt64 = 0x3FFF_FFFF_FFFF_FFFF
}

/// A point in time, in microseconds since 1970-01-01 00:00 UTC, as Postgres stores it.
package struct Timestamp: Sendable, Hashable, Comparable {
    package var microseconds: Int64

    package init(microseconds: Int64) {
        self.microseconds = microseconds
    }

    package static func < (left: Timestamp, right: Timestamp) -> Bool {
        left.microseconds < right.microseconds
    }

    package func advanced(by duration: Duration) -> Timestamp {
        Timestamp(microseconds: microseconds + duration.microseconds)
    }
}

extension Duration {
    /// The duration in whole microseconds, rounded towards zero.
    package var microseconds: Int64 {
        components.seconds * 1_000_000 + components.attoseconds / 1_000_000_000_000
    }

    /// The duration in whole milliseconds, rounded towards zero.
    package var milliseconds: Int64 {
        components.seconds * 1000 + components.attoseconds / 1_000_000_000_000_000
    }

    package var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }
}

extension Timestamp {
    /// The time of this machine's clock. It is for display only and never for decisions, except whether a
    /// credential has expired, because the clock of its issuer cannot be read.
    package static var now: Timestamp {
        Timestamp(microseconds: Int64(Date().timeIntervalSince1970 * 1_000_000))
    }
}
