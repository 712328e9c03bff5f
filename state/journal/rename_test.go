package journal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/state/journal"
)

var (
	from = journal.Names{Organization: "acme", Project: "web", Stack: "dev"}
	to   = journal.Names{Organization: "acme", Project: "shop", Stack: "prod"}
)

const before = ` {"version":4 , "features":["views"],"deployment":{
 "manifest":{"time":"2026-01-02T03:04:05Z","magic":"","version":"urn:pulumi:dev::web::t::not-here"},
 "secrets_providers":{"type":"service","state":{"url":"https://ipuka.example.com","owner":"Acme","project":"web","stack":"dev","n":1.0}},
 "resources":[
  {"urn":"urn:pulumi:dev::web::pulumi:pulumi:Stack::web-dev","custom":false,"type":"pulumi:pulumi:Stack","outputs":{"text":"urn:pulumi:dev::web::t::free text"}},
  {"urn":"urn:pulumi:dev::web::pulumi:providers:t::p::q","custom":true,"id":"1","type":"pulumi:providers:t"},
  {"urn":"urn:pulumi:dev::web::t:m:T::dev::web","type":"t:m:T","custom":true,"id":"urn:pulumi:dev::web::t::id","parent":"urn:pulumi:dev::web::pulumi:pulumi:Stack::web-dev",
   "dependencies" : [ "urn:pulumi:dev::web::a::b" , "urn:pulumi:dev::other::a::b", "urn:pulumi:devel::web::a::b" ],
   "propertyDependencies":{"urn:pulumi:dev::web::a::key":["urn:pulumi:dev::web::a::b"],"n":null},
   "provider":"urn:pulumi:dev::web::pulumi:providers:t::p::q::urn:pulumi:dev","deletedWith":"urn:pulumi:dev::web::a::d","replaceWith":["urn:pulumi:dev::web::a::r"],
   "viewOf":"urn:pulumi:dev::web::a::v","aliases":["urn:pulumi:dev::web::a::z"],
   "inputs":{"big":12345678901234567890,"esc":"\u003c",
    "ref":{"urn":"urn:pulumi:dev::web::a::ref","4dabf18193072939515e22adb298388d":"5cf8f73096256a8f31e491e813e4eb8e","id":"x"},
    "list":[{"4dabf18193072939515e22adb298388d":"5cf8f73096256a8f31e491e813e4eb8e","urn":"urn:pulumi:dev::web::a::in-list"}],
    "out":{"4dabf18193072939515e22adb298388d":"d0e6a833031e9bbcd3f4e8bde6ca49a4","value":{"4dabf18193072939515e22adb298388d":"5cf8f73096256a8f31e491e813e4eb8e","urn":"urn:pulumi:dev::web::a::in-out"},"dependencies":["urn:pulumi:dev::web::a::dep"]},
    "secret":{"4dabf18193072939515e22adb298388d":"1b47061264138c4ac30d75fd1eb44270","ciphertext":"urn:pulumi:dev::web::a::c"},
    "plain":{"urn":"urn:pulumi:dev::web::a::plain","dependencies":["urn:pulumi:dev::web::a::plain"]}},
   "someday":{"urn":"urn:pulumi:dev::web::a::unknown"}}],
 "pending_operations":[{"type":"creating","resource":{"urn":"urn:pulumi:dev::web::t:m:T::op","type":"t:m:T"}}],
 "snippets":[{"uuid":"1","code":"urn:pulumi:dev::web::a::code","references":{"r":"urn:pulumi:dev::web::a::s"}}],
 "metadata":{}}}
`

func TestRename(t *testing.T) {
	got, err := journal.Rename([]byte(before), from, to)
	if err != nil {
		t.Fatal(err)
	}
	kept := []string{"t::not-here", "t::free text", "t::id", "a::key", "a::c", "a::plain", "a::unknown", "a::code"}
	want := strings.NewReplacer("urn:pulumi:dev::web::pulumi:pulumi:Stack::web-dev", "urn:pulumi:prod::shop::pulumi:pulumi:Stack::shop-prod",
		"urn:pulumi:dev::web::", "urn:pulumi:prod::shop::", `"owner":"Acme","project":"web","stack":"dev"`, `"owner":"acme","project":"shop","stack":"prod"`).Replace(before)
	for _, k := range kept {
		want = strings.ReplaceAll(want, "urn:pulumi:prod::shop::"+k, "urn:pulumi:dev::web::"+k)
	}
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	back, err := journal.Rename(got, to, from)
	if err != nil {
		t.Fatal(err)
	}
	if string(back) != strings.Replace(before, "Acme", "acme", 1) {
		t.Errorf("back: %s", back)
	}
}

func TestRenameLeavesOthersAlone(t *testing.T) {
	for _, raw := range []string{
		`{"version":3,"deployment":null}`,
		`{"version":3}`,
		`{"version":3,"deployment":{"resources":null,"secrets_providers":null,"snippets":[1],"pending_operations":[2,{"resource":3}]}}`,
		`{"version":3,"deployment":{"resources":["x",{"urn":1,"provider":"x","dependencies":"x","inputs":7}]}}`,
		`{"version":3,"deployment":{"secrets_providers":{"type":"passphrase","state":{"owner":"acme","project":"web","stack":"dev"}}}}`,
		`{"version":3,"deployment":{"secrets_providers":{"type":"service","state":{"owner":"acme","project":"web","stack":"prod"}}}}`,
		`{"version":3,"deployment":{"secrets_providers":{"type":"service","state":7}}}`,
		`{"version":3,"deployment":{"resources":[{"urn":"urn:pulumi:dev::webs::a::b"},{"urn":"urn:pulumi:devs::web::a::b"},{"urn":"urn:pulumi:dev::web"}]}}`,
	} {
		if got, err := journal.Rename([]byte(raw), from, to); err != nil || string(got) != raw {
			t.Errorf("%v: %s became %s", err, raw, got)
		}
	}
	for _, raw := range []string{"", "[]", "{", `{"deployment":{"resources":[}}`, `{} {}`} {
		if _, err := journal.Rename([]byte(raw), from, to); !errors.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// A renamed state is the state of an update whose every entry was renamed.
func TestRenameCommutesWithReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := generate(t)
		result, _ := replay(t, g, g.entries, options)
		renamed, err := journal.Rename(result.Deployment, from, to)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(renamed, []byte("urn:pulumi:dev::web::")) {
			t.Fatalf("an old name is left in %s", renamed)
		}
		back, err := journal.Rename(renamed, to, from)
		if err != nil || !bytes.Equal(back, result.Deployment) {
			t.Fatalf("%v: renaming back gives\n%s\nwant\n%s", err, back, result.Deployment)
		}
		if r, err := journal.Replay(renamed, nil, options); err != nil || r.Integrity != "" {
			t.Fatalf("%v, integrity %s", err, r.Integrity)
		}
	})
}
