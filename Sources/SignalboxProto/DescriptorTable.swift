import CSignalboxProto
package import Support

/// The definitions of the services for server reflection. The generated tables that it reads are constant.
package enum DescriptorTable {
    private struct File {
        let bytes: [UInt8]
        /// The indexes of the files that it imports.
        let imports: [Int]
    }

    private static let files: [File] = {
        let table = unsafe UnsafeBufferPointer(
            start: signalbox_descriptor_files(), count: signalbox_descriptor_file_count())
        return unsafe table.map { file in
            let imports = unsafe UnsafeBufferPointer(start: file.dependencies, count: file.dependency_count)
            return unsafe File(
                bytes: Array(UnsafeBufferPointer(start: file.bytes, count: file.length)),
                imports: imports.map { Int($0) })
        }
    }()

    private static let fileOfName: [ExactText: Int] = {
        let table = unsafe UnsafeBufferPointer(
            start: signalbox_descriptor_files(), count: signalbox_descriptor_file_count())
        let names = unsafe table.enumerated().map { unsafe (ExactText(String(cString: $1.name)), $0) }
        return Dictionary(names, uniquingKeysWith: { first, _ in first })
    }()

    private static let fileOfSymbol: [ExactText: Int] = {
        let table = unsafe UnsafeBufferPointer(
            start: signalbox_descriptor_symbols(), count: signalbox_descriptor_symbol_count())
        let names = unsafe table.map { unsafe (ExactText(String(cString: $0.name)), Int($0.file)) }
        return Dictionary(names, uniquingKeysWith: { first, _ in first })
    }()

    /// The full names of the services, sorted.
    package static let services: [ExactText] = {
        let table = unsafe UnsafeBufferPointer(
            start: signalbox_descriptor_services(), count: signalbox_descriptor_service_count())
        return unsafe table.compactMap { unsafe $0.map { unsafe ExactText(String(cString: $0)) } }
    }()

    /// The file of this name, then everything that it imports, each once; nil if there is no such file.
    package static func files(named name: ExactText) -> [[UInt8]]? {
        fileOfName[name].map(withImports)
    }

    /// The file that declares a service, method, message, field, enum or enum value, given by its full name
    /// without leading dot, then everything that it imports.
    package static func files(containingSymbol name: ExactText) -> [[UInt8]]? {
        fileOfSymbol[name].map(withImports)
    }

    private static func withImports(_ first: Int) -> [[UInt8]] {
        var order = [first]
        var next = 0
        while next < order.count {
            for file in files[order[next]].imports where !order.contains(file) { order.append(file) }
            next += 1
        }
        return order.map { files[$0].bytes }
    }

    /// The answer to any question of server reflection. Nil is a question that this version does not know.
    /// These files declare no extensions.
    package static func answer(
        _ question: ServerReflectionRequest.Question?
    ) -> ServerReflectionResponse.Answer {
        // These are gRPC status codes.
        let invalidArgument = 3
        let notFound = 5
        func found(_ files: [[UInt8]]?, _ what: String) -> ServerReflectionResponse.Answer {
            if let files {
                return .fileDescriptorResponse(FileDescriptorResponse(fileDescriptorProto: files))
            }
            return .errorResponse(ErrorResponse(errorCode: notFound, errorMessage: "no such \(what)"))
        }
        switch question {
        case .fileByFilename(let name): return found(files(named: name), "file")
        case .fileContainingSymbol(let name): return found(files(containingSymbol: name), "symbol")
        case .fileContainingExtension: return found(nil, "extension")
        case .allExtensionNumbersOfType(let type):
            if fileOfSymbol[type] == nil { return found(nil, "type") }
            return .allExtensionNumbersResponse(
                ExtensionNumberResponse(baseTypeName: type, extensionNumber: []))
        case .listServices:
            return .listServicesResponse(
                ListServiceResponse(service: services.map { ServiceResponse(name: $0) }))
        case nil:
            return .errorResponse(
                ErrorResponse(errorCode: invalidArgument, errorMessage: "unknown or empty request"))
        }
    }
}
