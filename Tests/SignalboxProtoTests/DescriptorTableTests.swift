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
                "signalbox.v1.InfoService", "signalbox.v1.JobService",
            ])
    }

    @Test func answers() {
        func error(_ code: Int, _ message: ExactText) -> ServerReflectionResponse.Answer {
            .errorResponse(ErrorResponse(errorCode: code, errorMessage: message))
        }
        let type: ExactText = "signalbox.v1.Job"
        let services = DescriptorTable.services.map { ServiceResponse(name: $0) }
        #expect(
            DescriptorTable.answer(.listServices(""))
                == .listServicesResponse(ListServiceResponse(service: services)))
        #expect(DescriptorTable.answer(.fileContainingSymbol("no.Such")) == error(5, "no such symbol"))
        #expect(DescriptorTable.answer(.fileByFilename("no")) == error(5, "no such file"))
        #expect(
            DescriptorTable.answer(.allExtensionNumbersOfType(type))
                == .allExtensionNumbersResponse(
                    ExtensionNumberResponse(baseTypeName: type, extensionNumber: [])))
        #expect(DescriptorTable.answer(.allExtensionNumbersOfType("no")) == error(5, "no such type"))
        let number = ExtensionRequest(containingType: type, extensionNumber: 1)
        #expect(DescriptorTable.answer(.fileContainingExtension(number)) == error(5, "no such extension"))
        #expect(DescriptorTable.answer(nil) == error(3, "unknown or empty request"))
    }
}
