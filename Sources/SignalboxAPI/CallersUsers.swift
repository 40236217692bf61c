import JobModel
import GRPC
import Support

extension Caller {
    /// Throws PERMISSION_DENIED for a user for whom the caller may not act. Whether there is such a user, or anything of
    /// theirs, that does not tell.
    func check(_ userID: ExactText, _ field: String) throws {
        guard users.contains(userID) else {
            throw Status(.permissionDenied, "\(field) is not a user for whom this caller may act")
        }
    }
}
