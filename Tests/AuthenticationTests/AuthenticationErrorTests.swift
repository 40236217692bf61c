import JobModel
import Testing

@testable import Authentication

@Suite struct AuthenticationErrorTests {
    /// Messages are not made at run time, so these repeat the rule.
    @Test func theMessageHasTheRuleOfNames() {
        for error in [AuthenticationError.badSubject, .badUsers] {
            #expect(error.description.hasSuffix(PrincipalName.rule))
        }
        #expect(AuthenticationError.badUsers.description.contains(" \(UserGrant.usersMax) names"))
    }
}
