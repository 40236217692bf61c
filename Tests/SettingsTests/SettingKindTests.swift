import Settings
import Testing

@Suite struct SettingKindTests {
    @Test(arguments: [
        ("500ms", Duration.milliseconds(500)), ("15s", .seconds(15)), ("10m", .seconds(600)),
        ("2h", .seconds(7200)), ("7d", .seconds(604_800)), ("0s", .zero),
    ])
    func durationsReadAndWrite(_ text: String, _ duration: Duration) {
        #expect(DurationText.duration(text) == duration)
        #expect(DurationText.text(duration) == text)
    }

    @Test(arguments: [
        "", "5", "s", "-1s", "1.5s", "1 s", "1S", "1w", "99999999999999999999s", "9223372036854775807d",
    ])
    func whatIsNoDuration(_ text: String) {
        #expect(DurationText.duration(text) == nil)
    }

    @Test func durationsAreShownInTheLargestWholeUnit() {
        #expect(DurationText.text(.milliseconds(1500)) == "1500ms")
        #expect(DurationText.text(.seconds(90)) == "90s")
        #expect(DurationText.text(.seconds(86_400)) == "1d")
    }
}
