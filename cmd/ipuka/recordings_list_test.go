package main

const (
	oneStack = "/api/stacks/[^/]+/[^/]+/[^/]+"
	fi       = "/api/stacks/acme/demo/fi"
	dev      = "/api/stacks/acme/demo/dev"
	renamed  = "/api/stacks/acme/demo/renamed"
	failing  = "/api/stacks/acme/demo/failing"

	sevenStacks = `{"event":"stack-created","user":{"githubLogin":"alice"}},{"event":"stack-created"},{"event":"stack-created"},
		{"event":"stack-created"},{"event":"stack-created"},{"event":"stack-created"},{"event":"stack-created"}`

	// What an up of the recorded program made, in two stacks.
	renamedResources = `{"deployment":{"secrets_providers":{"state":{"stack":"renamed"}},"resources":[
		{"urn":"urn:pulumi:renamed::demo::pulumi:pulumi:Stack::demo-renamed"},
		{"urn":"urn:pulumi:renamed::demo::pulumi:providers:pulumi::default"},
		{"urn":"urn:pulumi:renamed::demo::pulumi:index:Stash::one"},
		{"urn":"urn:pulumi:renamed::demo::pulumi:index:Stash::two"}]}}`
	failingResources = `{"deployment":{"resources":[
		{"urn":"urn:pulumi:failing::demo::pulumi:pulumi:Stack::demo-failing"},
		{"urn":"urn:pulumi:failing::demo::pulumi:providers:pulumi::default"},
		{"urn":"urn:pulumi:failing::demo::pulumi:index:Stash::one"}]}}`
)

// exceptions are the calls whose answer is to differ from the recorded one, with the
// better answer and the reason. Calls that the recorder failed in the server's stead
// are not made and need none; those for which it invented a success do.
var exceptions = []exception{
	{"", "", "GET", "/api/capabilities", false, 200,
		`{"capabilities":[{"capability":"batch-encrypt"},{"capability":"deployment-schema-version","version":1,"configuration":{"version":4}}]}`,
		"delta checkpoints lose pending operations, so they are not offered; the schema with features is; nobody needs to be known to ask"},
	{"01-main", "", "GET", "/", false, 303, "", "the console is there"},
	{"", "", "POST", oneStack + "/decrypt/log-(batch-)?decryption", false, 204, "", "what people reveal is recorded"},

	// History: the recorded server counted pages from 0, and kept no messages.
	{"01-main", "history|history-json", "GET", dev + "/updates", false, 200, `{"updates":[
		{"kind":"refresh","result":"succeeded","version":3},
		{"kind":"update","result":"succeeded","version":2,"resourceChanges":{"same":3}},
		{"kind":"update","result":"succeeded","version":1,"message":"first update","resourceChanges":{"create":3}}]}`,
		"page 1 is the first"},
	{"03-lifecycle", "history", "GET", "/api/stacks/acme/demo/prod/updates", false, 200,
		`{"updates":[{"kind":"import","version":2},{"kind":"update","version":1}]}`, "page 1 is the first"},
	{"01-main", "curl-history", "GET", dev + "/updates", false, 200, `{"updates":[
		{"kind":"import","version":4},{"kind":"refresh","version":3},{"kind":"update","version":2},
		{"kind":"update","version":1,"message":"first update"}]}`, "what was said about an update is kept"},

	// Renaming: the recorded server renamed its row and nothing else.
	{"01-main", "export-after-rename", "GET", renamed + "/export", false, 200, renamedResources, "the resources are those of the renamed stack"},
	{"02-more", "preview-after-rename", "GET", renamed + "/export", false, 200, renamedResources, "the resources are those of the renamed stack"},
	{"02-more", "preview-after-rename|preview-ok", "POST", dev + "/batch-decrypt", false, 200, "", "secrets survive a renaming, and the stack that the old state names is found"},
	{"02-more", "preview-while-locked", "POST", renamed + "/preview", false, 200, `{"requiredPolicies":[],"messages":[]}`, "a preview disturbs nobody"},
	{"02-more", "up-while-locked", "POST", renamed + "/update", false, 200, `{"requiredPolicies":[],"messages":[]}`, "a conflict is found at the start, for which the CLI has a hint"},
	{"02-more", "rename-back", "POST", renamed + "/rename", false, 200, "", "nothing is in the way of the old name"},
	{"02-more", "preview-ok", "GET", renamed, false, 404, "", "the stack has its old name again"},
	{"02-more", "preview-ok", "POST", renamed + "/preview", false, 404, "", "the stack has its old name again"},
	{"02-more", "preview-ok", "POST", renamed + "/update/[^/]+", false, 404, "", "the stack has its old name again"},
	{"05-faults", "defaultorg-404", "GET", "/api/user/stacks", false, 200,
		`{"stacks":[{"stackName":"dest"},{"stackName":"dev"},{"stackName":"fi"}],"continuationToken":null}`, "the stack has its old name again"},
	{"16-extra", "ls-console", "GET", "/api/user/stacks", false, 200,
		`{"stacks":[{"stackName":"dest"},{"stackName":"dev"},{"stackName":"eb"},{"stackName":"failing"},{"stackName":"fi"}],"continuationToken":null}`, "the stack has its old name again"},
	{"14-crash", "ls-empty-token", "GET", "/api/user/stacks", false, 200,
		`{"stacks":[{"stackName":"dest"},{"stackName":"dev"},{"stackName":"eb"},{"stackName":"failing"},{"stackName":"fi"}],"continuationToken":null}`,
		"the last page has no token: an empty one makes the CLI ask for ever"},
	{"11-login", "browser-login", "GET", "/api/user/stacks", false, 200,
		`{"stacks":[{"stackName":"dest"},{"stackName":"dev"},{"stackName":"failing"},{"stackName":"fi"}],"continuationToken":null}`,
		"the other stack was in the organization of another recording"},

	// Updates that did not succeed: the recorded server dropped what they had done.
	{"06-journal-faults", "413-journal", "PATCH", fi + "/update/[^/]+/journalentries", false, 204, "", "the client was told that the batch had arrived, so it has to"},
	{"09-failure", "stack-after-failure|up-stackref-ok", "GET", failing + "/export", false, 200, failingResources, "what a failed update made is kept"},
	{"10-interrupt", "cancelled-by-other", "GET", fi + "/export", false, 200, stashTwo("two-f"), "what an interrupted update changed is kept"},
	{"10-interrupt", "kill9", "GET", fi + "/export", false, 200, stashTwo("two-g"), "what a cancelled update changed is kept, reported after the cancel too"},
	{"10-interrupt", "up-after-cancel", "GET", fi + "/export", false, 200, stashTwo("two-g"), "what a killed client reported is kept"},
	{"10-interrupt", "kill9", "PATCH", fi + "/update/[^/]+/journalentries", false, 204, "", "the last words of a killed client are kept; the recorder lost the answer"},
	{"10-interrupt", "after-kill9", "POST", fi + "/update", false, 200, `{"requiredPolicies":[],"messages":[]}`, "a conflict is found at the start, for which the CLI has a hint"},
	{"08-lease", "", "PATCH", "/api/stacks/acme/lease/dev/update/[^/]+/journalentries", false, 204, "", "a renewed lease leaves the requests under way alone"},

	{"08-lease", "lease-race", "GET", "/api/stacks/acme/lease/dev/export", false, 200,
		`{"deployment":{"resources":[{"urn":"urn:pulumi:dev::lease::pulumi:pulumi:Stack::lease-dev"}]}}`, "what an update reported before its end is kept"},

	// Checkpoints.
	{"07-modes", "nojournal-delta1B", "PATCH", fi + "/update/[^/]+/checkpointdelta", false, 200, "", "deltas that come to their hash are taken"},

	// The client hung up on the recorder.
	{"11-login", "oidc-org", "GET", "/api/user/organizations/default", false, 200, `{"GitHubLogin":"acme"}`, "the recorder lost the answer"},
	{"15-agent", "agent-signup2", "GET", "/api/user/organizations/default", false, 200, `{"GitHubLogin":"acme"}`, "the recorder lost the answer"},

	// What the recorder made up: features of its own, and broken answers.
	{"11-login|15-agent", "", "POST", "/api/oauth/token", false, 404, "", "no tokens by OAuth yet"},
	{"15-agent", "", "(GET|POST)", "/api/agents/signup", false, 404, "", "agents do not sign themselves up"},
	{"12-org", "", "GET", "/api/orgs/acme/members", false, 200, `{"members":[{"role":"admin","user":{"githubLogin":"alice"}}]}`, "the members of this organization"},
	{"12-org", "member-edit|member-remove", "(PATCH|DELETE)", "/api/orgs/acme/members/bob", false, 404, "", "bob is no member here"},
	{"12-org", "member-edit-fga", "PATCH", "/api/orgs/acme/members/bob", false, 400, "", "the role it names is a custom one, and there are none yet"},
	{"12-org", "", "GET", "/api/orgs/acme/roles", false, 404, "", "no custom roles yet"},
	{"12-org", "audit-list", "GET", "/api/orgs/acme/auditlogs", false, 200, `{"auditLogEvents":[` + sevenStacks + `]}`, "the events of this organization"},
	{"12-org", "audit-export", "GET", "/api/orgs/acme/auditlogs/export", false, 404, "", "no exports yet"},
	{"14-crash", "batch-decrypt-missing|batch-decrypt-null", "POST", fi + "/batch-decrypt", false, 200, "", "every ciphertext has its plaintext"},
	{"14-crash", "create-stack-emptybody", "POST", "/api/stacks/acme/demo", false, 200, `{}`, "the CLI fails without a body"},
	{"14-crash", "content-encoding-identity|getstack-empty-name", "GET", fi, false, 200, `{"orgName":"acme","projectName":"demo","stackName":"fi"}`, "a stack says its name"},
	{"14-crash", "ls-no-project", "GET", "/api/user/stacks", false, 200, `{"stacks":[{"projectName":"demo"},{"projectName":"demo"},{"projectName":"demo"},{"projectName":"demo"},{"projectName":"demo"}]}`, "every stack says its project"},
	{"14-crash", "export-.*", "GET", fi + "/export", false, 200, `{"version":3}`, "the export is whole"},
	{"14-crash", "user-org-no-login|user-empty-login", "GET", "/api/user", false, 401, "", "a token that nobody issued"},
	{"14-crash", "start-no-token", "POST", fi + "/update/[^/]+", true, 0, "", "the client crashed at the recorder's answer: a start here would lock the stack for the rest"},
	{"14-crash", "messages-then-403", "POST", fi + "/update", true, 0, "", "the client went on with an ID of the recorder's making"},

	// Empty lists, which keep the CLI going.
	{"13-misc", "policy-ls", "GET", "/api/orgs/acme/policypacks", false, 200, `{"policyPacks":[]}`, "none, rather than an error"},
	{"13-misc", "policy-group-ls", "GET", "/api/orgs/acme/policygroups", false, 200, `{"policyGroups":[]}`, "none, rather than an error"},
	{"13-misc|16-extra", "", "GET", "/api/registry/templates", false, 200, `{"templates":[]}`, "without the list the CLI makes no new projects"},
}

// stashTwo is the recorded program's state when its second resource has a value.
func stashTwo(value string) string {
	return `{"deployment":{"resources":[{"urn":"urn:pulumi:fi::demo::pulumi:pulumi:Stack::demo-fi"},
		{"urn":"urn:pulumi:fi::demo::pulumi:providers:pulumi::default"},{"urn":"urn:pulumi:fi::demo::pulumi:index:Stash::one"},
		{"urn":"urn:pulumi:fi::demo::pulumi:index:Stash::two","inputs":{"input":"` + value + `"}}]}}`
}

// operations are the members whose values are not the recorded ones, wherever they are.
var operations = []operation{
	{"GET", "/api/user", false, map[string]*field{
		"identities": {absent, "how people sign in is said: the recorded server knew of no way"},
		"tokenInfo":  {absent, "a personal token has none: the CLI would call its type unknown"},
	}},
	{"GET", "/api/user/stacks", false, map[string]*field{
		"stacks[].lastUpdate": {typed, "the time of the replay"},
		"stacks[].tags":       {absent, "the CLI does not read it"},
	}},
	{"POST", "/api/stacks/[^/]+/[^/]+", true, nil},
	{"POST", oneStack + "/update/[^/]+", false, map[string]*field{
		"version":         {typed, "previews take no versions here; the replay itself knows which to expect"},
		"tokenExpiration": {typed, "the time of the replay"},
		"journalVersion":  {absent, "without a journal it is 0 or missing, with one the replay would fail"},
	}},
	{"POST", oneStack + "/update/[^/]+/renew_lease", false, map[string]*field{
		"tokenExpiration": {typed, "the time of the replay"},
	}},
	{"GET", oneStack, false, map[string]*field{
		"version":      {typed, "previews take no versions here"},
		"activeUpdate": {typed, "previews do not hold the stack here"},
	}},
	{"GET", oneStack + "/updates/latest", false, map[string]*field{
		"info.startTime": {typed, "the time of the replay"},
		"info.endTime":   {typed, "the time of the replay"},
	}},
	{"GET", oneStack + "/export(/[0-9]+)?", false, map[string]*field{
		"deployment.manifest.time": {typed, "the time of the replay"},
	}},
}
