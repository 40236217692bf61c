import SignalboxProto
import Support
import Testing

@Suite struct DescriptorTableTests {
    /// A FileDescriptorProto starts with its name.
    private func names(_ files: [[UInt8]]?) -> [String] {
        (files ?? []).map { file in
            file.first == 0x0A ? String(decoding: file[2..<(2 + Int(file[1]))], as: UTF8.self) : ""
        }
    }

    @Test func filesComeWithTheirImports() {
        let files = names(DescriptorTable.files(named: "signalbox/v1/job_service.proto"))
        #expect(files.first == "signalbox/v1/job_service.proto")
        #expect(
            Set(files) == [
                "signalbox/v1/job_service.proto", "signalbox/v1/job.proto",
                "google/protobuf/timestamp.proto", "google/protobuf/duration.proto",
            ])
        #expect(files.count == 4)
        #expect(DescriptorTable.files(named: "none.proto") == nil)
    }

    @Test(arguments: [
        ("signalbox.v1.JobService", "signalbox/v1/job_service.proto"),
        ("signalbox.v1.JobService.Enqueue", "signalbox/v1/job_service.proto"),
        ("signalbox.v1.Job", "signalbox/v1/job.proto"),
        ("signalbox.v1.AdminService", "signalbox/v1/admin_service.proto"),
        ("grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto"),
    ])
    func symbols(_ symbol: ExactText, _ file: String) {
        #expect(names(DescriptorTable.files(containingSymbol: symbol)).first == file)
    }

    @Test func services() {
        #expect(
            DescriptorTable.services == [
                "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "signalbox.v1.AdminService",
                "signalbox.v1.JobService",
            ])
    }

    @Test func answers() {
        #expect(DescriptorTable.answer(.listServices("")) == .services(DescriptorTable.services))
        #expect(
            DescriptorTable.answer(.fileContainingSymbol("no.Such"))
                == .error(code: 5, message: "no such symbol"))
        #expect(DescriptorTable.answer(.fileByName("no")) == .error(code: 5, message: "no such file"))
        #expect(
            DescriptorTable.answer(.allExtensionNumbers(type: "signalbox.v1.Job"))
                == .extensionNumbers(type: "signalbox.v1.Job", []))
        #expect(
            DescriptorTable.answer(.allExtensionNumbers(type: "no"))
                == .error(code: 5, message: "no such type"))
        #expect(
            DescriptorTable.answer(.fileContainingExtension(type: "signalbox.v1.Job", number: 1))
                == .error(code: 5, message: "no such extension"))
        #expect(DescriptorTable.answer(.none) == .error(code: 3, message: "no question that is known"))
    }
}
