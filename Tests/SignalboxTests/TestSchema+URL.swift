import TestDatabase

extension TestSchema {
    /// The address of the schema, as a server is given it.
    func url(applicationName: String) -> String {
        let parameters = ["options=-csearch_path%3D\(name)", "application_name=\(applicationName)"]
        guard connectionString.contains("://") else {
            return connectionString + " " + parameters.joined(separator: " ").replacing("%3D", with: "=")
        }
        return connectionString + (connectionString.contains("?") ? "&" : "?")
            + parameters.joined(separator: "&")
    }
}
