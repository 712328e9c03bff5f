package proxy

import (
	"net/http"

	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/rbac"
)

// Permissions of routes that no role grants.
const (
	anyone rbac.Permission = "anyone" // no credential is looked at
	self   rbac.Permission = "self"   // any signed-in caller, about themselves
	site   rbac.Permission = "site"   // a site administrator
	lease  rbac.Permission = "lease"  // the holder of the update's sealed token
)

// Route is one operation of the API.
type Route struct {
	Method  string
	Pattern string // as in net/http; {org}, {project} and {stack} name the object
	Name    string // the operation's name in the Pulumi Service's OpenAPI document
	// Permission is what the caller needs on the object. Where the body decides,
	// it is the least that any body needs, and Decide asks for the rest.
	Permission rbac.Permission
	// Event is what the call is called in the audit log. It is empty for plain
	// reads, for the many calls of a running update, and for administrative changes,
	// whose event is written by what makes the change, in the same transaction.
	Event string
	Says  string        // what the event says happened, before the name of the stack
	Query []string      // the query parameters that are looked at and forwarded
	Limit httpapi.Limit // of the request body; none where it is zero
	// Decide asks for what this call's body needs besides Permission.
	Decide func(c *call) error
	// Answer answers the call. Without one it is forwarded to the state service.
	Answer func(g *Gate, w http.ResponseWriter, c *call) error
	// Reply acts on the state service's successful answer before the client gets it.
	Reply func(g *Gate, c *call, a *answer) error
}

// kinds are the words that name an update's kind in its path. After its creation
// clients use the word update for all of them.
var kinds = []string{"update", "preview", "refresh", "destroy"}

// routes returns everything the gate knows of the API. What is not here is a 404.
func routes() []Route {
	const (
		org     = "/api/orgs/{org}"
		project = "/api/stacks/{org}/{project}"
		stack   = project + "/{stack}"
	)
	table := []Route{
		// Bootstrap.
		{Method: "GET", Pattern: "/api/capabilities", Name: "Capabilities", Permission: anyone},
		{Method: "GET", Pattern: "/api/cli/version", Name: "Version", Permission: anyone, Answer: (*Gate).version},

		// The caller.
		{Method: "GET", Pattern: "/api/user", Name: "GetCurrentUser", Permission: self, Answer: (*Gate).currentUser},
		{Method: "GET", Pattern: "/api/user/organizations/default", Name: "GetDefaultOrganization", Permission: self, Answer: (*Gate).defaultOrganization},
		{Method: "GET", Pattern: "/api/user/stacks", Name: "ListUserStacks", Permission: self, Answer: (*Gate).listStacks,
			Query: []string{"organization", "project", "tagName", "tagValue", "continuationToken", "maxResults"}},
		{Method: "GET", Pattern: "/api/user/tokens", Name: "ListPersonalTokens", Permission: self, Answer: (*Gate).listTokens, Query: []string{"filter", "continuationToken", "maxResults"}},
		{Method: "POST", Pattern: "/api/user/tokens", Name: "CreatePersonalToken", Permission: self, Answer: (*Gate).createToken, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: "/api/user/tokens/{token}", Name: "DeletePersonalToken", Permission: self, Answer: (*Gate).deleteToken},
		{Method: "POST", Pattern: "/api/user/organizations/{org}/default", Name: "UpdateDefaultOrganization", Permission: rbac.Membership, Answer: (*Gate).setDefaultOrganization},
		{Method: "DELETE", Pattern: "/api/user/vcs", Name: "DeleteIdentityProvider", Permission: self, Answer: (*Gate).unlinkIdentity, Query: []string{"identity"}},
		{Method: "GET", Pattern: "/api/user/pending-invites", Name: "ListUserOrgInvites", Permission: self, Answer: (*Gate).pendingInvites},
		{Method: "GET", Pattern: "/api/user/verified-email", Name: "GetUserHasVerifiedEmail", Permission: self, Answer: (*Gate).verifiedEmail},
		{Method: "GET", Pattern: "/api/user/vcs/organizations", Name: "ListIdentityProviderOrganizations", Permission: self, Answer: (*Gate).externalOrganizations},
		{Method: "GET", Pattern: "/api/user/github/{group}/teams", Name: "ListGitHubOrganizationTeams", Permission: self, Answer: (*Gate).gitHubTeams},
		{Method: "GET", Pattern: "/api/user/gitlab-app/organizations", Name: "GetGroupsForGitLabApp", Permission: self, Answer: (*Gate).gitLabGroups},

		// Organizations.
		{Method: "POST", Pattern: "/api/orgs", Name: "CreateOrganization", Permission: self, Answer: (*Gate).createOrganization, Limit: httpapi.Small},
		{Method: "GET", Pattern: org + "/metadata", Name: "GetOrganizationMetadata", Permission: rbac.Membership, Answer: (*Gate).metadata},
		{Method: "DELETE", Pattern: org, Name: "DeleteOrganization", Permission: "organization:delete", Answer: (*Gate).deleteOrganization},
		{Method: "POST", Pattern: org + "/rename", Name: "RenameOrganization", Permission: "organization:rename", Answer: (*Gate).renameOrganization, Limit: httpapi.Small},
		{Method: "PUT", Pattern: org + "/backing", Name: "BackOrganization", Permission: "organization:change_backend", Answer: (*Gate).backOrganization, Limit: httpapi.Small},
		{Method: "GET", Pattern: org + "/members/{user}/teams", Name: "GetOrganizationMemberTeams", Permission: "org_member:read", Answer: (*Gate).memberTeams},
		{Method: "GET", Pattern: org + "/sign-ins", Name: "ListRefusedSignIns", Permission: "saml:read", Answer: (*Gate).organizationSignIns, Query: []string{"continuationToken", "maxResults"}},

		// Single sign-on and provisioning.
		{Method: "GET", Pattern: org + "/saml", Name: "GetSAMLOrganization", Permission: "saml:read", Answer: (*Gate).samlSettings},
		{Method: "PATCH", Pattern: org + "/saml", Name: "UpdateSAMLOrganization", Permission: "saml:update", Answer: (*Gate).updateSAML, Limit: httpapi.Medium},
		{Method: "DELETE", Pattern: org + "/saml", Name: "DeleteSAMLOrganization", Permission: "saml:update", Answer: (*Gate).removeSAML},
		{Method: "GET", Pattern: org + "/saml/health", Name: "ProbeSAMLOrganization", Permission: "saml:read", Answer: (*Gate).probeSAML},
		{Method: "GET", Pattern: org + "/saml/admins", Name: "ListSAMLOrganizationAdmins", Permission: "saml:read", Answer: (*Gate).samlAdmins},
		{Method: "POST", Pattern: org + "/saml/admins/{user}", Name: "UpdateSAMLOrganizationAdmins", Permission: "saml:update", Answer: (*Gate).setSAMLAdmin},
		{Method: "GET", Pattern: org + "/scim", Name: "GetSCIMToken", Permission: "scim:read", Answer: (*Gate).scimToken},
		{Method: "POST", Pattern: org + "/scim", Name: "CreateSCIMToken", Permission: "scim:update", Answer: (*Gate).createSCIMToken},
		{Method: "DELETE", Pattern: org + "/scim", Name: "DeleteSCIMToken", Permission: "scim:delete", Answer: (*Gate).deleteSCIMToken},

		// Invites. Whoever has one is no member yet.
		{Method: "GET", Pattern: org + "/invites", Name: "ListOrgInvites", Permission: "invites:read", Answer: (*Gate).invites, Query: []string{"continuationToken"}},
		{Method: "POST", Pattern: org + "/invites/batch", Name: "BatchCreateOrgInviteEmail", Permission: "invites:create", Answer: (*Gate).inviteBatch, Limit: httpapi.Small},
		{Method: "POST", Pattern: org + "/invites/link", Name: "CreateOrgInviteLink", Permission: "invites:create", Answer: (*Gate).inviteLink, Limit: httpapi.Small},
		{Method: "GET", Pattern: org + "/invites/{invite}", Name: "GetOrgInvite", Permission: self, Answer: (*Gate).inviteOf},
		{Method: "PATCH", Pattern: org + "/invites/{invite}", Name: "AcceptOrgInvite", Permission: self, Answer: (*Gate).acceptInvite, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: org + "/invites/{invite}", Name: "CancelOrgInvite", Permission: "invites:create", Answer: (*Gate).cancelInvite},
		{Method: "POST", Pattern: org + "/invites/{invite}/resend", Name: "ResendOrgInvite", Permission: "invites:create", Answer: (*Gate).resendInvite},
		{Method: "POST", Pattern: org + "/invites/{invite}/approve", Name: "ApproveOrgInvite", Permission: "org_member:add", Answer: (*Gate).approveInvite},

		// Teams and who is in them. A team's own administrators may update it.
		{Method: "GET", Pattern: org + "/teams", Name: "ListTeams", Permission: "team:list", Answer: (*Gate).teams},
		{Method: "POST", Pattern: org + "/teams/pulumi", Name: "CreatePulumiTeam", Permission: "team:create", Answer: (*Gate).createTeam, Limit: httpapi.Small},
		{Method: "GET", Pattern: org + "/teams/{team}", Name: "GetTeam", Permission: "team:list", Answer: (*Gate).team},
		{Method: "PATCH", Pattern: org + "/teams/{team}", Name: "UpdateTeam", Permission: "team:list", Answer: (*Gate).updateTeam, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: org + "/teams/{team}", Name: "DeleteTeam", Permission: "team:delete", Answer: (*Gate).deleteTeam},

		// The installation.
		{Method: "GET", Pattern: "/api/site/users", Name: "ListSiteUsers", Permission: site, Answer: (*Gate).siteUsers, Query: []string{"query", "continuationToken", "maxResults"}},
		{Method: "PATCH", Pattern: "/api/site/users/{user}", Name: "UpdateSiteUser", Permission: site, Answer: (*Gate).updateSiteUser, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: "/api/site/users/{user}", Name: "DeleteSiteUser", Permission: site, Answer: (*Gate).deleteSiteUser},
		{Method: "GET", Pattern: "/api/site/organizations", Name: "ListSiteOrganizations", Permission: site, Answer: (*Gate).siteOrganizations, Query: []string{"query", "deleted", "continuationToken", "maxResults"}},
		{Method: "POST", Pattern: "/api/site/organizations/{id}/restore", Name: "RestoreOrganization", Permission: site, Answer: (*Gate).restoreOrganization},
		{Method: "POST", Pattern: "/api/site/organizations/{id}/purge", Name: "PurgeOrganization", Permission: site, Answer: (*Gate).purgeOrganization},
		{Method: "GET", Pattern: "/api/site/connectors", Name: "ListConnectors", Permission: site, Answer: (*Gate).siteConnectors},
		{Method: "GET", Pattern: "/api/site/sign-ins", Name: "ListSiteRefusedSignIns", Permission: site, Answer: (*Gate).siteSignIns, Query: []string{"continuationToken", "maxResults"}},
		{Method: "GET", Pattern: "/api/site/mail", Name: "ListMail", Permission: site, Answer: (*Gate).siteMail, Query: []string{"continuationToken", "maxResults"}},
		{Method: "DELETE", Pattern: "/api/site/mail/{id}", Name: "RemoveMail", Permission: site, Answer: (*Gate).removeMail},

		// Organizations, what the main job needs.
		{Method: "GET", Pattern: org, Name: "GetOrganization", Permission: rbac.Membership, Answer: (*Gate).organization},
		{Method: "GET", Pattern: org + "/members", Name: "ListOrganizationMembers", Permission: "org_member:read", Answer: (*Gate).members, Query: []string{"type", "continuationToken"}},
		{Method: "PATCH", Pattern: org, Name: "UpdateOrganizationSettings", Permission: "organization:update", Answer: (*Gate).updateOrganization, Limit: httpapi.Small},
		{Method: "POST", Pattern: org + "/members/{user}", Name: "AddOrganizationMember", Permission: "org_member:add", Answer: (*Gate).addMember, Limit: httpapi.Small},
		{Method: "PATCH", Pattern: org + "/members/{user}", Name: "UpdateOrganizationMember", Permission: "org_member:update", Answer: (*Gate).updateMember, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: org + "/members/{user}", Name: "DeleteOrganizationMember", Permission: "org_member:delete", Answer: (*Gate).deleteMember},
		{Method: "GET", Pattern: org + "/auditlogs", Name: "ListAuditLogEventsHandlerV1", Permission: "audit_logs:read", Answer: (*Gate).auditLogsV1, Query: auditQuery},
		{Method: "GET", Pattern: org + "/auditlogs/v2", Name: "ListAuditLogEventsHandlerV2", Permission: "audit_logs:read", Answer: (*Gate).auditLogsV2, Query: auditQuery},

		// What the CLI asks for and can do without: an empty list keeps it going.
		{Method: "GET", Pattern: "/api/registry/templates", Name: "ListTemplates", Permission: self, Answer: emptyList("templates")},
		{Method: "GET", Pattern: "/api/registry/packages", Name: "ListPackages", Permission: self, Answer: emptyList("packages")},
		{Method: "GET", Pattern: org + "/policypacks", Name: "ListPolicyPacks", Permission: "policy_pack:read", Answer: emptyList("policyPacks")},
		{Method: "GET", Pattern: org + "/policygroups", Name: "ListPolicyGroups", Permission: "policy_groups:read", Answer: emptyList("policyGroups")},

		// Stacks.
		{Method: "HEAD", Pattern: project, Name: "ProjectExists", Permission: rbac.Membership, Answer: (*Gate).projectExists},
		{Method: "POST", Pattern: project, Name: "CreateStack", Permission: "stack:create", Event: "stack-created", Says: "Created stack", Limit: httpapi.Large, Decide: decideCreateStack, Reply: (*Gate).stackCreated},
		{Method: "GET", Pattern: stack, Name: "GetStack", Permission: "stack:read", Reply: (*Gate).nameOrganization},
		{Method: "DELETE", Pattern: stack, Name: "DeleteStack", Permission: "stack:delete", Event: "stack-deleted", Says: "Deleted stack", Query: []string{"force"}, Reply: (*Gate).stackDeleted},
		{Method: "POST", Pattern: stack + "/rename", Name: "RenameStack", Permission: "stack:rename", Event: "stack-renamed", Says: "Renamed stack", Limit: httpapi.Small, Decide: decideRename, Reply: (*Gate).stackRenamed},
		{Method: "PATCH", Pattern: stack + "/tags", Name: "UpdateStackTags", Permission: "stack_tags:update", Event: "stack-tags-updated", Says: "Changed the tags of stack", Limit: httpapi.Small},
		{Method: "GET", Pattern: stack + "/export", Name: "ExportStack", Permission: "stack:export", Event: "stack-exported", Says: "Exported stack"},
		{Method: "GET", Pattern: stack + "/export/{version}", Name: "ExportStackAtVersion", Permission: "stack:export", Event: "stack-exported", Says: "Exported stack"},
		{Method: "POST", Pattern: stack + "/import", Name: "ImportStack", Permission: "stack:import", Event: "stack-imported", Says: "Imported state into stack", Limit: httpapi.Large},
		{Method: "GET", Pattern: stack + "/config", Name: "GetStackConfig", Permission: "stack:read"},
		{Method: "PUT", Pattern: stack + "/config", Name: "UpdateStackConfig", Permission: "stack:write", Event: "stack-config-updated", Says: "Changed the configuration of stack", Limit: httpapi.Small},
		{Method: "DELETE", Pattern: stack + "/config", Name: "DeleteStackConfig", Permission: "stack:write", Event: "stack-config-deleted", Says: "Deleted the configuration of stack"},
		{Method: "GET", Pattern: stack + "/policypacks", Name: "GetStackPolicyPacks", Permission: "stack:read", Answer: emptyList("requiredPolicies")},

		// Who may use a stack, besides by the organization's default. PUT is ours: the
		// Pulumi Service has no call that adds a collaborator.
		{Method: "GET", Pattern: stack + "/collaborators", Name: "ListStackPermissions", Permission: "stack_access:read", Answer: (*Gate).collaborators},
		{Method: "PUT", Pattern: stack + "/collaborators/{user}", Name: "SetStackPermission", Permission: "stack_access:update", Answer: (*Gate).setCollaborator, Limit: httpapi.Small},
		{Method: "DELETE", Pattern: stack + "/collaborators/{user}", Name: "DeleteStackPermission", Permission: "stack_access:update", Answer: (*Gate).deleteCollaborator},

		// Secrets.
		{Method: "POST", Pattern: stack + "/encrypt", Name: "EncryptValue", Permission: "stack:encrypt", Limit: httpapi.Medium},
		{Method: "POST", Pattern: stack + "/batch-encrypt", Name: "BatchEncryptValue", Permission: "stack:encrypt", Limit: httpapi.Medium},
		{Method: "POST", Pattern: stack + "/decrypt", Name: "DecryptValue", Permission: "stack:decrypt", Event: "secret-decrypted", Says: "Decrypted a secret of stack", Limit: httpapi.Medium},
		{Method: "POST", Pattern: stack + "/batch-decrypt", Name: "BatchDecryptValue", Permission: "stack:decrypt", Event: "secrets-batch-decrypted", Says: "Decrypted secrets of stack", Limit: httpapi.Medium},
		{Method: "POST", Pattern: stack + "/decrypt/log-decryption", Name: "LogOnlyDecryptValue", Permission: "stack:read", Event: "secret-decrypted", Says: "Decrypted a secret of stack", Limit: httpapi.Small},
		{Method: "POST", Pattern: stack + "/decrypt/log-batch-decryption", Name: "LogOnlyBatchDecryptValue", Permission: "stack:read", Event: "secrets-batch-decrypted", Says: "Decrypted secrets of stack", Limit: httpapi.Small},

		// History.
		{Method: "GET", Pattern: stack + "/updates", Name: "GetStackUpdates", Permission: "stack:read", Query: []string{"pageSize", "page", "output-type", "asc"}},
		{Method: "GET", Pattern: stack + "/updates/latest", Name: "GetLatestStackUpdate", Permission: "stack:read", Query: []string{"output-type"}},
		{Method: "GET", Pattern: stack + "/updates/latest/previews", Name: "GetLatestStackPreviews", Permission: "stack:read", Query: []string{"pageSize", "page", "asc"}},
		{Method: "GET", Pattern: stack + "/updates/{version}", Name: "GetStackUpdate", Permission: "stack:read"},
		{Method: "GET", Pattern: stack + "/previews/{update}", Name: "GetStackPreview", Permission: "stack:read"},
	}
	for _, kind := range kinds {
		table = append(table, updateRoutes(stack+"/"+kind, kind)...)
	}
	return table
}

// updateRoutes returns the life of an update whose paths have the given kind word.
func updateRoutes(base, kind string) []Route {
	update := base + "/{update}"
	title := map[string]string{"update": "Update", "preview": "Preview", "refresh": "Refresh", "destroy": "Destroy"}[kind]
	return []Route{
		{Method: "POST", Pattern: base, Name: "CreateUpdateFor" + title, Permission: "stack:read", Event: "stack-update-created", Says: "Prepared an update of stack", Limit: httpapi.Medium, Decide: decideCreateUpdate(kind)},
		{Method: "GET", Pattern: update, Name: "GetUpdateStatusFor" + title, Permission: "stack:read", Query: []string{"continuationToken"}},
		// The state service knows whether the update is a preview, and is told
		// whether the caller may do more: see grantable.
		{Method: "POST", Pattern: update, Name: "StartUpdateFor" + title, Permission: "stack:read", Event: "stack-update-started", Says: "Started an update of stack", Limit: httpapi.Small, Decide: decideStart, Reply: (*Gate).sealReply},
		{Method: "POST", Pattern: update + "/cancel", Name: "CancelUpdate_" + kind, Permission: "stack:cancel_update", Event: "stack-update-canceled", Says: "Canceled an update of stack", Limit: httpapi.Small},
		{Method: "GET", Pattern: update + "/events", Name: "GetEngineEvents_" + kind, Permission: "stack:read", Query: []string{"continuationToken", "type", "urn", "include_non_activated"}},

		{Method: "PATCH", Pattern: update + "/journalentries", Name: "CreateJournalEntries_" + kind, Permission: lease, Limit: httpapi.Medium},
		{Method: "PATCH", Pattern: update + "/checkpoint", Name: "PatchUpdateCheckpoint_" + kind, Permission: lease, Limit: httpapi.Large},
		{Method: "PATCH", Pattern: update + "/checkpointverbatim", Name: "PatchUpdateVerbatimCheckpoint_" + kind, Permission: lease, Limit: httpapi.Large},
		{Method: "PATCH", Pattern: update + "/checkpointdelta", Name: "PatchUpdateCheckpointDelta_" + kind, Permission: lease, Limit: httpapi.Large},
		{Method: "POST", Pattern: update + "/events", Name: "RecordEngineEvent_" + kind, Permission: lease, Limit: httpapi.Medium},
		{Method: "POST", Pattern: update + "/events/batch", Name: "RecordEngineEventBatch_" + kind, Permission: lease, Limit: httpapi.Medium},
		{Method: "POST", Pattern: update + "/renew_lease", Name: "RenewUpdateLease_" + kind, Permission: lease, Limit: httpapi.Small, Reply: (*Gate).sealReply},
		{Method: "POST", Pattern: update + "/complete", Name: "CompleteUpdate_" + kind, Permission: lease, Event: "stack-update-completed", Says: "Completed an update of stack", Limit: httpapi.Small},
	}
}
