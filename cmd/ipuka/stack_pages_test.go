package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-rod/rod"

	"github.com/ipuka/ipuka/identity"
)

// What no page may show: the secret, and what it is kept as.
const demoSecret = "hunter2-of-the-database"

// demo is an organization with a life: its stack acme/web/prod has had an update
// that succeeded, one that failed, a preview, and one that is running.
type demo struct {
	*house
	user       string // Authorization of alice
	ciphertext string
	preview    string // ID
	running    *demoUpdate
}

const demoStack = "/api/stacks/acme/web/prod"

func (i *house) demo() *demo {
	i.t.Helper()
	d := &demo{house: i, user: "token " + i.prepare()}
	for _, stack := range [][2]string{{"web", "prod"}, {"web", "staging"}, {"network", "a-stack-with-a-rather-long-name-for-a-phone"}} {
		d.call(d.user, "POST", "/api/stacks/acme/"+stack[0], `{"stackName":"`+stack[1]+`","tags":{"pulumi:project":"`+stack[0]+`","pulumi:runtime":"go"}}`, 200)
	}
	d.call(d.user, "PATCH", demoStack+"/tags", `{"pulumi:project":"web","pulumi:runtime":"go","team":"storefront","cost-center":"4711"}`, 204)
	d.call("token ipk_nobodys", "GET", "/api/user", "", 401)
	d.addBob()

	var sealed struct {
		Ciphertext string `json:"ciphertext"`
	}
	answer := d.call(d.user, "POST", demoStack+"/encrypt", `{"plaintext":"`+base64.StdEncoding.EncodeToString([]byte(demoSecret))+`"}`, 200)
	if err := json.Unmarshal(answer, &sealed); err != nil {
		d.t.Fatal(err)
	}
	d.ciphertext = sealed.Ciphertext
	d.succeed()
	d.fail()
	d.look()
	d.begin()
	return d
}

// addBob adds a member who tries what he may not do.
func (d *demo) addBob() {
	d.t.Helper()
	ctx := context.Background()
	check := func(err error) {
		d.t.Helper()
		if err != nil {
			d.t.Fatal(err)
		}
	}
	alice, err := d.app.directory.UserByLogin(ctx, "alice")
	check(err)
	actor := alice.Principal(identity.EmailConnector)
	bob, err := d.app.directory.CreateUser(ctx, actor, identity.NewUser{Login: "bob", Name: "Bob Brown", Email: "bob@example.com"})
	check(err)
	acme, err := d.app.directory.Organization(ctx, "acme")
	check(err)
	_, err = d.app.directory.AddMember(ctx, actor, acme.ID, "bob", identity.RoleMember)
	check(err)
	_, token, err := d.app.directory.CreateToken(ctx, bob.Principal(identity.EmailConnector), identity.TokenRequest{Description: "bob's laptop", Via: "api"})
	check(err)
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, known := d.app.engine.Snapshot().Organization("acme"); known && len(d.app.engine.Snapshot().Organizations(bob.ID)) == 1 {
			break
		}
		if time.Now().After(end) {
			d.t.Fatal("bob is no member")
		}
	}
	d.call("token "+token, "GET", "/api/orgs/acme/auditlogs", "", 403)
}

// demoUpdate is an update under way.
type demoUpdate struct {
	*demo
	path, lease string
	id          string
	events      int
	entries     int
}

// start starts an update of a kind, with a message.
func (d *demo) start(kind, message string) *demoUpdate {
	d.t.Helper()
	body := fmt.Sprintf(`{"name":"web","runtime":"go","main":"","description":"",
		"options":{"dryRun":%t,"parallel":16},
		"config":{"aws:region":{"string":"eu-central-1","secret":false,"object":false},"web:password":{"string":%q,"secret":true,"object":false}},
		"metadata":{"message":%q,"environment":{"exec.kind":"cli","pulumi.version":"v3.259.0","pulumi.os":"linux","pulumi.arch":"amd64",
			"runtime.name":"go","runtime.version":"1.26.1","git.head":"3f9c2a7b5d1e4f60718293a4b5c6d7e8f9012345","git.headName":"refs/heads/main",
			"git.author":"Alice Adams","git.dirty":"false","vcs.kind":"github.com","vcs.owner":"acme","vcs.repo":"web",
			"ci.system":"GitHub Actions","ci.build.number":"812","ci.build.url":"https://ci.example.com/acme/web/812"}}}`,
		kind == "preview", d.ciphertext, message)
	u := &demoUpdate{demo: d}
	var created struct {
		ID string `json:"updateID"`
	}
	if err := json.Unmarshal(d.call(d.user, "POST", demoStack+"/"+kind, body, 200), &created); err != nil {
		d.t.Fatal(err)
	}
	u.id, u.path = created.ID, demoStack+"/update/"+created.ID
	var started struct {
		Token string `json:"token"`
	}
	tags := `{"pulumi:project":"web","pulumi:runtime":"go","team":"storefront","cost-center":"4711"}`
	if err := json.Unmarshal(d.call(d.user, "POST", u.path, `{"tags":`+tags+`,"journalVersion":1}`, 200), &started); err != nil {
		d.t.Fatal(err)
	}
	u.lease = "update-token " + started.Token
	return u
}

func (u *demoUpdate) journal(entries ...string) {
	u.t.Helper()
	for i, entry := range entries {
		u.entries++
		entries[i] = fmt.Sprintf(`{"version":1,"sequenceID":%d,"removeOld":null,"removeNew":null,%s}`, u.entries, entry)
	}
	u.call(u.lease, "PATCH", u.path+"/journalentries", `{"entries":[`+strings.Join(entries, ",")+`]}`, 204)
}

func (u *demoUpdate) emit(events ...string) {
	u.t.Helper()
	for i, event := range events {
		events[i] = fmt.Sprintf(`{"sequence":%d,"timestamp":%d,%s}`, u.events, time.Now().Unix(), event)
		u.events++
	}
	u.call(u.lease, "POST", u.path+"/events/batch", `{"events":[`+strings.Join(events, ",")+`]}`, 204)
}

func (u *demoUpdate) complete(status string) {
	u.t.Helper()
	u.call(u.lease, "POST", u.path+"/complete", `{"status":"`+status+`"}`, 204)
}

func demoURN(kind, name string) string {
	return "urn:pulumi:prod::web::" + kind + "::" + name
}

const (
	demoRoot   = "pulumi:pulumi:Stack"
	demoBucket = "aws:s3/bucket:Bucket"
	demoTable  = "aws:rds/instance:Instance"
	demoSite   = "web:index:Site"
	providerID = "6f9619ff-8b86-4011-b42d-00cf4fc964ff"
)

func (d *demo) secret() string {
	return `{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"` + d.ciphertext + `"}`
}

// resource is a resource as journals have it.
func (d *demo) resource(kind, name, id, inputs, outputs string) string {
	parent, provider, custom := demoURN(demoRoot, "web-prod"), "", id != ""
	switch kind {
	case demoRoot:
		parent = ""
	case demoBucket, demoTable:
		parent = demoURN(demoSite, "site")
		provider = demoURN("pulumi:providers:aws", "default_7_11_0") + "::" + providerID
	}
	return fmt.Sprintf(`{"urn":%q,"custom":%t,"id":%q,"type":%q,"parent":%q,"provider":%q,"inputs":%s,"outputs":%s,"protect":%t}`,
		demoURN(kind, name), custom, id, kind, parent, provider, inputs, outputs, kind == demoTable)
}

// step is an event about a resource.
func step(event, op, kind, name, id, before, after string) string {
	state := func(inputs string) string {
		if inputs == "" {
			return "null"
		}
		return fmt.Sprintf(`{"type":%q,"urn":%q,"id":%q,"parent":"","inputs":%s,"outputs":{},"provider":""}`, kind, demoURN(kind, name), id, inputs)
	}
	return fmt.Sprintf(`%q:{"metadata":{"op":%q,"urn":%q,"type":%q,"old":%s,"new":%s,"detailedDiff":null,"logical":true,"provider":""}}`,
		event, op, demoURN(kind, name), kind, state(before), state(after))
}

func diagnostic(kind, name, severity, message string) string {
	return fmt.Sprintf(`"diagnosticEvent":{"urn":%q,"prefix":"<{%%fg 9%%}>%s: <{%%reset%%}>","message":"<{%%reset%%}>%s<{%%reset%%}>\n","color":"raw","severity":%q}`,
		demoURN(kind, name), severity, message, severity)
}

func summary(changes, result string, preview bool) string {
	return fmt.Sprintf(`"summaryEvent":{"maybeCorrupt":false,"durationSeconds":42,"resourceChanges":%s,"PolicyPacks":{},"isPreview":%t,"result":%q}`, changes, preview, result)
}

const (
	bucketInputs  = `{"bucket":"web-prod-content","forceDestroy":true,"tags":{"team":"storefront"}}`
	bucketChanged = `{"bucket":"web-prod-content","forceDestroy":false,"tags":{"team":"storefront"}}`
	tableInputs   = `{"engine":"postgres","instanceClass":"db.t4g.medium","password":"[secret]"}`
	tableLarger   = `{"engine":"postgres","instanceClass":"db.r7g.large","password":"[secret]"}`
)

func (d *demo) succeed() {
	u := d.start("update", "Put the shop's content into a bucket")
	u.journal(
		fmt.Sprintf(`"kind":6,"operationID":0,"secretsProvider":{"type":"service","state":{"url":%q,"owner":"acme","project":"web","stack":"prod"}}`, d.url),
		`"kind":1,"operationID":1,"state":`+d.resource(demoRoot, "web-prod", "", `{}`,
			`{"url":"https://shop.example.com","replicas":3,"password":`+d.secret()+`,"regions":["eu-central-1","eu-west-1"]}`),
		`"kind":1,"operationID":2,"state":`+d.resource("pulumi:providers:aws", "default_7_11_0", providerID, `{"region":"eu-central-1"}`, `{"region":"eu-central-1"}`),
		`"kind":1,"operationID":3,"state":`+d.resource(demoSite, "site", "", `{}`, `{}`),
		`"kind":1,"operationID":4,"state":`+d.resource(demoBucket, "content", "web-prod-content-3f2a81c", bucketInputs, `{"arn":"arn:aws:s3:::web-prod-content-3f2a81c"}`),
		`"kind":1,"operationID":5,"state":`+d.resource(demoTable, "orders", "orders-b01dface", `{"engine":"postgres","password":`+d.secret()+`}`,
			`{"endpoint":"orders.internal:5432","password":`+d.secret()+`}`),
	)
	u.emit(`"preludeEvent":{"config":{"aws:region":"eu-central-1","web:password":"[secret]"}}`,
		step("resourcePreEvent", "create", demoRoot, "web-prod", "", "", `{}`),
		step("resourcePreEvent", "create", demoSite, "site", "", "", `{}`),
		step("resourcePreEvent", "create", demoBucket, "content", "", "", bucketInputs),
		step("resOutputsEvent", "create", demoBucket, "content", "web-prod-content-3f2a81c", "", bucketInputs),
		diagnostic(demoBucket, "content", "warning", "acl is deprecated: use a policy instead"),
		step("resourcePreEvent", "create", demoTable, "orders", "", "", tableInputs),
		step("resOutputsEvent", "create", demoTable, "orders", "orders-b01dface", "", tableInputs),
		diagnostic(demoSite, "site", "info", "uploaded 214 files"),
		step("resOutputsEvent", "create", demoSite, "site", "", "", `{}`),
		step("resOutputsEvent", "create", demoRoot, "web-prod", "", "", `{}`),
		summary(`{"create":5}`, "succeeded", false))
	u.complete("succeeded")
}

// fail runs an update that changes the bucket and loses its connection to the database.
func (d *demo) fail() {
	u := d.start("update", "Give the orders more room")
	u.journal(
		`"kind":0,"operationID":1,"operation":{"type":"updating","resource":` + d.resource(demoTable, "orders", "orders-b01dface", `{"engine":"postgres"}`, `{}`) + `}`,
	)
	u.emit(
		step("resourcePreEvent", "update", demoTable, "orders", "orders-b01dface", tableInputs, tableLarger),
		diagnostic(demoTable, "orders", "error", "updating the instance: the connection was closed before an answer came"),
		step("resOpFailedEvent", "update", demoTable, "orders", "orders-b01dface", tableInputs, tableLarger),
		diagnostic(demoRoot, "web-prod", "error", "update failed"),
		summary(`{"same":4}`, "failed", false))
	u.complete("failed")
}

// look runs a preview.
func (d *demo) look() {
	u := d.start("preview", "See what a larger instance would change")
	u.emit(
		step("resourcePreEvent", "update", demoTable, "orders", "orders-b01dface", tableInputs, tableLarger),
		step("resOutputsEvent", "update", demoTable, "orders", "orders-b01dface", tableInputs, tableLarger),
		step("resourcePreEvent", "delete", demoBucket, "content", "web-prod-content-3f2a81c", bucketInputs, ""),
		step("resOutputsEvent", "delete", demoBucket, "content", "web-prod-content-3f2a81c", bucketInputs, ""),
		summary(`{"update":1,"delete":1,"same":3}`, "succeeded", true))
	u.complete("succeeded")
	d.preview = u.id
}

// begin starts the update that is running while pages are looked at.
func (d *demo) begin() {
	d.running = d.start("update", "Keep the bucket when the stack goes")
	d.running.emit(
		step("resourcePreEvent", "update", demoBucket, "content", "web-prod-content-3f2a81c", bucketInputs, bucketChanged),
		diagnostic(demoBucket, "content", "info", "waiting for the bucket"))
}

func testStackPages(t *testing.T, browser *rod.Browser) {
	d := install(t).demo()
	b := d.tab(t, browser, "stacks", true)
	b.secrets = []string{demoSecret, base64.StdEncoding.EncodeToString([]byte(demoSecret)), d.ciphertext, strings.TrimPrefix(d.user, "token ")}
	b.open("/acme", 200)
	b.signInByKeyboard(testPassword, 200)
	b.isAt("/acme", "acme")
	b.says("3 stacks", "network", "a-stack-with-a-rather-long-name-for-a-phone never –", "prod Running 5", "staging never")
	b.look("organization")
	b.fill("Search stacks by name", "stag")
	b.follow("Search", 200)
	b.says("1 of 3 stacks", "staging")
	b.open("/acme?q=nothing", 200)
	b.says("No stack has a name like nothing.")
	b.look("organization-nothing")
	b.open("/acme/web", 200)
	b.says("prod", "staging")

	b.stackPages()
	b.updatePages(d)
	b.follows(d)
	b.organizationPages()
}

func (b *tab) stackPages() {
	b.open("/acme/web/prod", 200)
	b.isAt("/acme/web/prod", "web/prod")
	b.says("update in progress, by alice", "url https://shop.example.com", "replicas 3", "password [secret]", "Resources 5",
		"An update ended in the middle of these operations.", "updating orders", "protected",
		"team storefront", "cost-center 4711", "Put the shop's content into a bucket", "Alice Adams", "3f9c2a7b5 on main",
		"Give the orders more room", "Failed", "Succeeded", "Running")
	b.look("stack")
	b.eval(`for (const d of document.querySelectorAll("main details")) d.open = true`, nil)
	b.says("web-prod-content-3f2a81c", "arn:aws:s3:::web-prod-content-3f2a81c", "endpoint orders.internal:5432")
	b.look("stack-open")
	b.open("/acme/web/staging", 200)
	b.says("This stack has no outputs.", "Nothing has happened to this stack yet.")
	b.look("stack-empty")
	b.open("/acme/web/prod/resources?q=bucket", 200)
	b.says("1 of 5 resources", "content")
	b.look("resources")
	b.open("/acme/web/prod/updates", 200)
	b.look("history")
	b.open("/acme/web/prod/settings/options", 200)
	b.look("options")
}

func (b *tab) updatePages(d *demo) {
	b.open("/acme/web/prod/updates/1", 200)
	b.isAt("/acme/web/prod/updates/1", "Update 1")
	b.says("Succeeded", "Put the shop's content into a bucket", "+5 created", "Alice Adams", "made by ipuka bootstrap", "3f9c2a7b5 on main",
		"warning content acl is deprecated: use a policy instead", "uploaded 214 files", "aws:region eu-central-1", "web:password [secret]", "v3.259.0")
	b.look("update")
	b.open("/acme/web/prod/updates/2", 200)
	b.isAt("/acme/web/prod/updates/2", "Update 2")
	b.says("Failed", "2 errors", "updating the instance: the connection was closed before an answer came", "failed to update",
		"instanceClass", "db.t4g.medium", "db.r7g.large")
	b.look("update-failed")
	b.open("/acme/web/prod/previews/"+d.preview, 200)
	b.says("Preview", "See what a larger instance would change", "~1 to update", "−1 to delete", "=3 unchanged", "orders aws:rds:Instance to update")
	b.lacks("updated", "deleted", "Resources 0")
	b.look("preview")
	b.open("/acme/web/prod/updates/99", 404)
	b.says("Nothing here")
	b.look("not-found")
	b.open("/another/web/prod", 404)
	b.quiet()
}

// follows checks that the page of a running update keeps up with it.
func (b *tab) follows(d *demo) {
	b.open("/acme/web/prod/updates/3?refresh=off", 200)
	b.says("Running", "Keep the bucket when the stack goes", "This page stands still.", "content aws:s3:Bucket update", "waiting for the bucket")
	b.lacks("updated", "Resources 0")
	b.look("update-running")
	b.follow("Follow the update", 200)
	d.running.emit(diagnostic(demoBucket, "content", "info", "the bucket is there"),
		step("resOutputsEvent", "update", demoBucket, "content", "web-prod-content-3f2a81c", bucketInputs, bucketChanged),
		summary(`{"update":1,"same":4}`, "succeeded", false))
	d.running.complete("succeeded")
	b.loads(func(*rod.Page) error { return nil }) // nobody does anything
	b.says("Succeeded", "the bucket is there", "~1 updated")
	b.lacks("This page follows")
	b.quiet()
}

func (b *tab) organizationPages() {
	b.open("/acme/settings/audit", 200)
	b.isAt("/acme/settings/audit", "Audit log")
	b.says("stack-update-started", "stack-update-completed", "stack-created", "Alice Adams", "Bob Brown", "Refused")
	b.look("audit")
	b.eval(`for (const d of [...document.querySelectorAll(".audit details")].slice(0, 3)) d.open = true`, nil)
	b.look("audit-open")
	b.open("/acme/settings/audit?user=bob", 200)
	b.says("Bob Brown")
	b.open("/acme/settings/audit?user=nobody", 200)
	b.says("No event matches.")
	b.open("/acme/settings/audit?event=no-such-event", 400)
	b.says(`No audit event is called "no-such-event".`)
	b.look("audit-problem")
	b.open("/acme/settings/members", 200)
	b.isAt("/acme/settings/members", "Members")
	b.says("Alice Adams you", "admin", "Bob Brown", "member")
	b.look("members")
}
