package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ipuka/ipuka/web"
)

const mark = `"4dabf18193072939515e22adb298388d"`

func secret(member string) string {
	return `{` + mark + `:"1b47061264138c4ac30d75fd1eb44270",` + member + `:"hunter2"}`
}

func TestSecretsAreMasked(t *testing.T) {
	for raw, want := range map[string]string{
		secret(`"ciphertext"`): "[secret]",
		secret(`"plaintext"`):  "[secret]",
		`{"plaintext":"hunter2",` + mark + `:"1b47061264138c4ac30d75fd1eb44270"}`:           "[secret]",
		`{"a":[1,` + secret(`"ciphertext"`) + `]}`:                                          "{\n  \"a\": [\n    1,\n    [secret]\n  ]\n}",
		`{` + mark + `:"0000000000000000000000000000000","value":"hunter2"}`:                "[secret]",
		`{` + mark + `:7,"value":"hunter2"}`:                                                "[secret]",
		`{` + mark + `:"d0e6a833031e9bbcd3f4e8bde6ca49a4","secret":true,"value":"hunter2"}`: "[secret]",
		`{` + mark + `:"d0e6a833031e9bbcd3f4e8bde6ca49a4","value":"plain"}`:                 `{` + "\n  " + mark + `: "d0e6a833031e9bbcd3f4e8bde6ca49a4",` + "\n  \"value\": \"plain\"\n}",
		`{"secure":"hunter2"}`: "[secret]",
		`{"a":"hunter2"`:       "[secret]",
		`hunter2`:              "[secret]",
		`"plain"`:              "plain",
		`{` + mark + `:"x",` + mark + `:"1b47061264138c4ac30d75fd1eb44270","plaintext":"hunter2"}`:            "[secret]",
		`{` + mark + `:"c44067f5952c0a294b673a41bacd8c17",` + mark + `:"y","plaintext":"hunter2"}`:            "[secret]",
		`{"\u0034dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"hunter2"}`: "[secret]",
		`12345678901234567890.50`: "12345678901234567890.50",
		`null`:                    "null",
		`[]`:                      "[]",
		``:                        "null",
	} {
		if got := web.Show(raw); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
}

func FuzzSecrets(f *testing.F) {
	for _, seed := range []string{`{"a":%s}`, `[%s,1]`, `%s`, `{"a":{"b":[%s]},"a":2}`, `{"a":"\"",%s`, `{"` + "\xff" + `":%s}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, around string) {
		if strings.Contains(around, "hunter2") {
			return
		}
		raw := strings.ReplaceAll(around, "%s", secret(`"ciphertext"`))
		// Within a string the text is no secret but a string.
		if got := web.Show(raw); strings.Contains(got, "hunter2") && !strings.Contains(got, "ciphertext") {
			t.Errorf("%s is shown as %s", raw, got)
		}
	})
}

func TestNoSecretOnAnyPage(t *testing.T) {
	h, b := visitAlice(t)
	for _, path := range []string{"/acme/website/prod", "/acme/website/prod/resources", "/acme/website/prod/updates/42", "/acme/website/prod/updates/42?unchanged=show", "/acme/website/prod/updates"} {
		wants(t, b.get(path), http.StatusOK, "!AAAB", "!AAABAHNlYWxlZC1ieS10aGUtc3RhY2sta2V5", "!AAABAGNpcGhlcnRleHQ", "!AAABAGhpZGRlbg")
	}
	for _, call := range h.gate.seen() {
		if strings.Contains(call, "decrypt") {
			t.Errorf("a page made the call %s", call)
		}
	}
}

func TestMarkupIsText(t *testing.T) {
	h, b := visitAlice(t)
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(2)>`
	base := "/api/stacks/acme/website/prod"
	h.gate.set(base, object{"orgName": "acme", "projectName": "website", "stackName": "prod", "version": 1, "tags": object{evil: evil}})
	update := h.update(1, evil, evil, 1, 1, evil, object{evil: 3})
	update["info"].(object)["environment"] = object{"git.head": evil, "git.author": evil, "git.headName": evil, "vcs.kind": "github.com", "vcs.owner": evil, "vcs.repo": evil,
		"ci.build.url": "javascript:alert(1)", "pulumi.version": evil}
	update["info"].(object)["config"] = object{evil: object{"string": evil}}
	update["requestedBy"] = object{"name": evil}
	h.gate.set(base+"/updates", object{"updates": []object{update}})
	h.gate.set(base+"/updates/1", update)
	urn := "urn:pulumi:prod::website::" + evil + "::" + evil
	h.gate.set(base+"/export", object{"version": 3, "deployment": object{"manifest": object{"version": evil}, "resources": []object{
		{"urn": "urn:pulumi:prod::website::pulumi:pulumi:Stack::s", "type": "pulumi:pulumi:Stack", "outputs": object{evil: evil, "o": object{evil: []string{evil}}}},
		{"urn": urn, "type": evil, "id": evil, "inputs": object{evil: evil}, "dependencies": []string{urn}}}}})
	h.gate.set(base+"/update/u-1/events", object{"events": []object{
		{"sequence": 1, "diagnosticEvent": object{"urn": urn, "message": "<{%fg 1%}>" + evil + "\x1b[31m", "severity": "error"}},
		{"sequence": 2, "resOutputsEvent": object{"metadata": object{"op": "create", "urn": urn, "type": evil, "new": object{"id": evil, "inputs": object{evil: evil}}}}}}})
	h.gate.set("/api/orgs/acme/auditlogs/v2", object{"auditLogEvents": []object{{"event": evil, "description": evil, "user": object{"name": evil, "githubLogin": evil},
		"rule": evil, "tokenName": evil, "details": object{evil: evil}, "userAgent": evil}}})
	h.gate.set("/api/orgs/acme/members", object{"members": []object{{"role": evil, "user": object{"name": evil, "githubLogin": evil}}}})
	h.gate.set("/api/user", object{"githubLogin": "alice", "name": evil, "email": evil, "organizations": []object{{"githubLogin": "acme", "name": evil}}})
	for _, path := range []string{"/acme", "/acme/website/prod", "/acme/website/prod/resources", "/acme/website/prod/updates", "/acme/website/prod/updates/1", "/acme/settings/audit", "/acme/settings/members"} {
		wants(t, b.get(path), http.StatusOK, "alert(1)", "!<script>alert", "!<img src=x", "!javascript:", "!\x1b", "!<{%")
	}
}

// What a client once sent may be of any shape: the page shows what it can.
func TestOddData(t *testing.T) {
	h, b := visitAlice(t)
	base := "/api/stacks/acme/website/prod"
	update := h.update(1, "update", "succeeded", 1, 1, "m", nil)
	update["info"].(object)["environment"] = object{"git.head": 7, "pulumi.version": []int{1}}
	update["info"].(object)["config"] = []int{1}
	update["info"].(object)["resourceChanges"] = "x"
	h.gate.set(base+"/updates/1", update)
	h.gate.set(base+"/update/u-1/events", object{"continuationToken": "", "events": []any{7, nil, "x", object{"resourcePreEvent": 5}, object{"sequence": "y"},
		object{"sequence": 9, "resourcePreEvent": object{"metadata": object{"op": "update", "urn": "no urn", "detailedDiff": object{"a[0": object{}, "": object{}, "[999999]": object{}}}}},
		object{"sequence": 10, "resOpFailedEvent": object{"metadata": object{"op": "delete"}}}, object{"stdoutEvent": object{"message": "still here"}}}})
	wants(t, b.get("/acme/website/prod/updates/1"), http.StatusOK, "still here", "failed to delete")
	h.gate.set(base+"/export", object{"version": 3, "deployment": object{"resources": []any{7, nil, object{"urn": "a", "parent": "b"}, object{"urn": "b", "parent": "a", "type": []int{}}, object{"urn": "c", "parent": "c"}}}})
	wants(t, b.get("/acme/website/prod"), http.StatusOK, "Resources <span class=\"num\">5</span>")
	for _, deployment := range []any{nil, object{}, object{"resources": nil}} {
		h.gate.set(base+"/export", object{"version": 3, "deployment": deployment})
		wants(t, b.get("/acme/website/prod"), http.StatusOK, "no resources", "no outputs")
	}
}

func TestHistoryOfTheCommand(t *testing.T) {
	h, b := visitAlice(t)
	// The flat form, without who and which.
	h.gate.set("/api/stacks/acme/website/prod/updates", object{"updates": []object{{"kind": "refresh", "version": 7, "result": "succeeded", "message": "flat", "startTime": minutesAgo(5), "endTime": minutesAgo(4)}}})
	wants(t, b.get("/acme/website/prod/updates"), http.StatusOK, "Refresh <span class=\"num\">7</span>", "flat", "took 1 min 00 s", "!Older")
}

func TestRunningStack(t *testing.T) {
	h, b := visitAlice(t)
	h.gate.set("/api/stacks/acme/website/prod", object{"orgName": "acme", "projectName": "website", "stackName": "prod", "version": 43,
		"currentOperation": object{"kind": "update", "author": "Ben", "started": minutesAgo(1)}})
	wants(t, b.get("/acme/website/prod"), http.StatusOK, `<a href="/acme/website/prod/updates/43">update</a> in progress, by <strong>Ben</strong>, since`)
	h.gate.set("/api/stacks/acme/website/prod/export", object{"version": 3, "deployment": object{"pending_operations": []object{
		{"type": "creating", "resource": object{"urn": "urn:pulumi:prod::website::aws:sqs/queue:Queue::jobs", "type": "aws:sqs/queue:Queue"}}}}})
	wants(t, b.get("/acme/website/prod"), http.StatusOK, "ended in the middle", "creating <strong>jobs</strong>")
}

func TestEventsArePaged(t *testing.T) {
	h, b := visitAlice(t)
	path := "/api/stacks/acme/website/prod/update/u-43/events"
	event := func(n int) object {
		return object{"sequence": n, "stdoutEvent": object{"message": fmt.Sprintf("line %d.", n)}}
	}
	h.gate.set(path, object{"events": []object{event(3), event(1)}, "continuationToken": "two"})
	h.gate.set(path+"?continuationToken=two", object{"events": []object{event(2)}, "continuationToken": "more"})
	h.gate.set(path+"?continuationToken=more", object{"events": []object{}, "continuationToken": "more"})
	before := len(h.gate.seen())
	body := wants(t, b.get("/acme/website/prod/updates/43"), http.StatusOK)
	h.gate.set(path+"?continuationToken=more", object{"events": []object{}, "continuationToken": "another"})
	h.gate.set(path+"?continuationToken=another", object{"events": []object{event(4)}, "continuationToken": "another"})
	wants(t, b.get("/acme/website/prod/updates/43"), http.StatusOK, "!line 4.")
	if n := len(h.gate.seen()) - before; n > 12 {
		t.Errorf("%d calls for two pages", n)
	}
	one, two, three := strings.Index(body, "line 1."), strings.Index(body, "line 2."), strings.Index(body, "line 3.")
	if one < 0 || two < one || three < two {
		t.Errorf("lines at %d, %d, %d", one, two, three)
	}
}

func TestLookup(t *testing.T) {
	const raw = `{"a":{"b":[{"c.d":"found"}]},"s":{"secure":"x"},"q\"e":1}`
	for path, want := range map[string]string{`a.b[0]["c.d"]`: "found", "": "whole", "a.b": "list", "s": "[secret]", "s.t": "[secret]", `["q\"e"]`: "1"} {
		got, ok := web.Lookup(raw, path)
		if !ok || len(want) > 3 && want[0] == 'f' && got != want || want == "[secret]" && got != want || want == "1" && got != want {
			t.Errorf("%s: %q, %t", path, got, ok)
		}
	}
	for _, path := range []string{"b", "a.b[1]", "a.b[-1]", "a[0]", "a.b[x]", "a..b", "[", `["`, "a.b[99999999999999]"} {
		if got, ok := web.Lookup(raw, path); ok {
			t.Errorf("%s: found %q", path, got)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add(`a.b[0]["c.d"]`)
	f.Add(`[0][1].x`)
	f.Fuzz(func(t *testing.T, path string) {
		if got, ok := web.Lookup(`{"a":{"b":[{"c.d":{"secure":"hunter2"}}]}}`, path); ok && strings.Contains(got, "hunter2") {
			t.Errorf("%s finds %q", path, got)
		}
	})
}

func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"<{%fg 1%}>error: <{%reset%}>x":      "error: x",
		"\x1b[1;31mred\x1b[0m":               "red",
		"a\tb\nc\r\x00\u009b":                "a\tb\nc",
		"<{%never ended":                     "<{%never ended",
		"bad \xff byte":                      "bad \uFFFD byte",
		"<{%" + strings.Repeat("x", 50):      "<{%" + strings.Repeat("x", 50),
		"<{%<{%reset%}>reset%}> nested \x1b": "<{%reset%}> nested ",
	} {
		if got := web.Plain(text); got != want {
			t.Errorf("Plain(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "just now", 44 * time.Second: "just now", -30 * time.Second: "in a moment", 60 * time.Second: "1 minute ago", 89 * time.Minute: "89 minutes ago",
		90 * time.Minute: "2 hours ago", 35 * time.Hour: "35 hours ago", 36 * time.Hour: "2 days ago", 59 * 24 * time.Hour: "59 days ago",
		60 * 24 * time.Hour: "2 months ago", 800 * 24 * time.Hour: "2 years ago", -30 * 24 * time.Hour: "in 30 days",
	} {
		if got := web.Ago(now, now.Add(-d)); got != want {
			t.Errorf("Ago(%v) = %q, want %q", d, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "under a second", time.Second: "1 s", 61 * time.Second: "1 min 01 s", 3700 * time.Second: "1 h 01 min"} {
		if got := web.Took(d); got != want {
			t.Errorf("Took(%v) = %q, want %q", d, got, want)
		}
	}
}
