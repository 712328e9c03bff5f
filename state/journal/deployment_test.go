package journal_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/state/journal"
)

func mustReplay(t *testing.T, base string, entries ...string) (journal.Result, string) {
	t.Helper()
	result, err := journal.Replay([]byte(long(base)), lines(t, entries), options)
	if err != nil {
		t.Fatal(err)
	}
	return result, string(result.Deployment)
}

func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in\n%s", part, text)
		}
	}
}

// What replay does not have to change comes out as it came in.
func TestBytesArePreserved(t *testing.T) {
	odd := `"inputs" : {"b":1.0,"a":12345678901234567890123, "e":1E+2,"s":"\u003c\u00e9\/é","n":-0,"c":[ 1 ,{}]} , "someday":{"x":[null]}`
	raw := `{ "someday0" :1,"type":"t:m:T","urn":"$a",` + odd + ` , "custom": true, "id":"1" }`
	child := strings.Replace(raw, `"$a"`, `"$b"`, 1)
	_, text := mustReplay(t, baseOf(raw), success(1, child))
	has(t, text, long(raw), long(child))

	// Flags, aliases and pruning change their members and no other byte.
	_, text = mustReplay(t, baseOf(raw), success(1, child, `"deleteOld":0`))
	has(t, text, long(strings.TrimSuffix(raw, " }")+`,"delete":true }`))
	_, text = mustReplay(t, baseOf(strings.Replace(raw, `"custom"`, `"delete" : false , "custom"`, 1)), success(1, "", `"pendingReplacementOld":0`), success(2, "", `"deleteOld":0`))
	has(t, text, long(strings.TrimSuffix(strings.Replace(raw, `"custom"`, `"delete" : true , "custom"`, 1), " }")+`,"pendingReplacement":true }`))
	aliased := strings.Replace(child, `"someday0" :1,`, `"aliases":["$z"] , "someday0" :1,`, 1)
	_, text = mustReplay(t, "", success(1, aliased))
	has(t, text, long(child))
	last := strings.TrimSuffix(child, " }") + ` , "dependencies" : [ "$gone" ] }`
	_, text = mustReplay(t, baseOf(res("gone", "9"), last), kind(3, 1, "", `"removeOld":0`))
	has(t, text, long(child))

	// Names with escapes are the same names.
	_, text = mustReplay(t, baseOf(`{"\u0075rn":"$a","type":"t:m:T","custom":true,"id":"1"}`), success(1, res("b", "2", `"aliases":["$a"]`)))
	has(t, text, long(`{"\u0075rn":"$b","type":"t:m:T","custom":true,"id":"1"}`))
}

func TestManifest(t *testing.T) {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("v3.259.0")))
	_, text := mustReplay(t, `{"version":3,"deployment":{"manifest":{"time":"x","magic":"m","version":"v1","plugins":[{}]}}}`)
	want := `{"version":3,"deployment":{"manifest":{"time":"2026-05-06T07:08:09Z","magic":"` + sum + `","version":"v3.259.0"},"resources":[],"metadata":{}}}`
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	result, err := journal.Replay(nil, nil, journal.Options{Now: options.Now})
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(result.Deployment), `"magic":"","version":""}`)
}

func TestSecretsProvider(t *testing.T) {
	const one, other = `{"type":"service","state":{"stack":"dev"}}`, `{"type":"service","state":{"stack":"prod"}}`
	base := `{"version":3,"deployment":{"secrets_providers":` + strings.Replace(one, `"type"`, `"extra":1, "type"`, 1) + `}}`
	for _, test := range []struct{ name, base, sent, want string }{
		{"first", "", one, one},
		{"unchanged keeps the bytes", base, strings.Replace(one, ":{", ": {", 1), `{"extra":1, "type":"service","state":{"stack":"dev"}}`},
		{"changed", base, other, other},
		{"other type", base, `{"type":"passphrase","state":{"stack":"dev"}}`, `{"type":"passphrase","state":{"stack":"dev"}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, text := mustReplay(t, test.base, `"kind":6,"operationID":0,"secretsProvider":`+test.sent)
			has(t, text, `"secrets_providers":`+test.want)
		})
	}
	_, text := mustReplay(t, base, `"kind":5,"operationID":0,"newSnapshot":{"resources":[]}`)
	has(t, text, `"secrets_providers":{"extra":1`) // its secrets are still encrypted with it
	_, text = mustReplay(t, base, `"kind":5,"operationID":0,"newSnapshot":{"secrets_providers":`+other+`}`)
	has(t, text, other)
	provider, err := journal.ProviderOf([]byte(base))
	if err != nil || provider.Type != "service" || string(provider.State) != `{"stack":"dev"}` {
		t.Errorf("%v, %v", provider, err)
	}
	if provider, err = journal.ProviderOf([]byte(`{"version":3,"deployment":{}}`)); err != nil || provider.Type != "" || provider.State != nil {
		t.Errorf("no provider: %v, %v", provider, err)
	}
	if _, err = journal.ProviderOf([]byte(`[]`)); !errors.Is(err, errs.Invalid) {
		t.Errorf("broken: %v", err)
	}
}

func TestExtensionsAndSnippets(t *testing.T) {
	base := `{"version":4,"features":["snippets-prototype"],"deployment":{"snippets":[{"uuid":"1","references":{"x":"$a"}}],"extensions":{"r":{"name":"base"}},"tomorrow":[1.0],"resources":[` + a + `]}}`
	_, text := mustReplay(t, base,
		`"kind":8,"operationID":3,"extensionRef":"r","extension":{"name":"lost"}`,
		`"kind":8,"operationID":4,"extensionRef":"s","extension":{"name":"old"}`,
		`"kind":8,"operationID":5,"extensionRef":"s","extension":{"name":"new","value":"AA=="}`,
		success(6, res("n", "1", `"aliases":["$a"]`), `"removeOld":0`))
	has(t, text, `"extensions":{"r":{"name":"base"},"s":{"name":"new","value":"AA=="}}`, `"tomorrow":[1.0]`,
		long(`"snippets":[{"uuid":"1","references":{"x":"$n"}}]`), `{"version":4,"features":["snippets-prototype"],`)
	_, text = mustReplay(t, base, `"kind":9,"operationID":0,"snippets":[{"uuid":"2"}]`)
	has(t, text, `"snippets":[{"uuid":"2"}]`)
	for _, none := range []string{`"kind":9,"operationID":0`, `"kind":9,"operationID":0,"snippets":[]`} {
		if _, text = mustReplay(t, base, none); strings.Contains(text, "snippets") {
			t.Errorf("the snippets stay: %s", text)
		}
	}
	// Rebuilding keeps what was parameterized.
	_, text = mustReplay(t, "", `"kind":8,"operationID":4,"extensionRef":"s","extension":{}`, `"kind":7,"operationID":0`)
	has(t, text, `"extensions":{"s":{}}`)
}

func TestFeatures(t *testing.T) {
	for _, test := range []struct {
		name    string
		base    string
		entries []string
		want    []string
	}{
		{"none", abc, nil, nil},
		{"each", "", []string{success(1, res("a", "1", `"refreshBeforeUpdate":true,"viewOf":"$b","resourceHooks":{"h":[]},"taint":true,"extensionRef":"r","snippetID":"s"`)), success(2, res("b", "2", `"replaceWith":["$a"]`), `"requiresByteString":true`)},
			[]string{"byteString", "extensionParameterization", "hooks", "refreshBeforeUpdate", "replaceWith", "snippets-prototype", "taint", "views"}},
		{"unused", "", []string{success(1, res("a", "1", `"refreshBeforeUpdate":false,"viewOf":"","resourceHooks":{},"taint":false,"extensionRef":"","snippetID":"","replaceWith":[]`))}, nil},
		{"under way", "", []string{begin(1, "creating", res("a", "", `"taint":true`))}, []string{"taint"}},
		{"gone", baseOf(res("a", "1", `"taint":true`)), []string{success(1, "", `"removeOld":0`)}, nil},
		{"byte strings and nothing to hold them", "", []string{success(1, "", `"requiresByteString":true`)}, nil},
		{"byte strings of the base", `{"version":4,"features":["byteString"],"deployment":{"resources":[` + a + `]}}`, []string{success(1, res("b", "2"))}, []string{"byteString"}},
		{"byte strings of a base rewritten", `{"version":4,"features":["byteString"],"deployment":{"resources":[` + a + `]}}`, []string{`"kind":5,"operationID":0,"newSnapshot":{"resources":[` + a + `]}`}, nil},
		{"byte strings through rebuilding", baseOf(a), []string{kind(3, 1, a, `"removeOld":0,"requiresByteString":true`), `"kind":7,"operationID":0`}, []string{"byteString"}},
		{"of the future", `{"version":4,"features":["zeta","alpha"],"deployment":{}}`, nil, []string{"alpha", "zeta"}},
		{"snippets", "", []string{`"kind":9,"operationID":0,"snippets":[{"uuid":"2"}]`}, []string{"snippets-prototype"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			result, text := mustReplay(t, test.base, test.entries...)
			version := 3
			if len(test.want) > 0 {
				version = 4
				has(t, text, `{"version":4,"features":["`+strings.Join(test.want, `","`)+`"],"deployment"`)
			} else {
				has(t, text, `{"version":3,"deployment"`)
			}
			if !slices.Equal(result.Features, test.want) || result.Version != version {
				t.Errorf("features %q, version %d", result.Features, result.Version)
			}
		})
	}
}

func TestIntegrity(t *testing.T) {
	prov := func(id string) string {
		return `{"urn":"urn:pulumi:dev::web::pulumi:providers:t::p","custom":true,"id":"` + id + `","type":"pulumi:providers:t"}`
	}
	using := `"provider":"urn:pulumi:dev::web::pulumi:providers:t::p::1"`
	for _, test := range []struct{ name, base, want string }{
		{"sound", abc, ""},
		{"order", baseOf(b, a), "$b refers to $a, which does not stand before it"},
		{"missing dependency", baseOf(b), "$b refers to $a"},
		{"missing property dependency", baseOf(res("b", "2", `"propertyDependencies":{"a":["$a"]}`)), "$b refers to $a"},
		{"missing parent", baseOf(res("b", "2", `"parent":"$a"`)), "$b refers to $a"},
		{"missing deletedWith", baseOf(res("b", "2", `"deletedWith":"$a"`)), "$b refers to $a"},
		{"missing replaceWith", baseOf(res("b", "2", `"replaceWith":["$a"]`)), "$b refers to $a"},
		{"twice", baseOf(a, a), "two resources have the URN $a"},
		{"twice, one to be deleted", baseOf(a, res("a", "0", `"delete":true`), res("a", "8", `"delete":true`)), ""},
		{"component with ID", baseOf(`{"urn":"$a","type":"t:m:T","id":"1"}`), "$a is not custom and has an ID"},
		{"provider", baseOf(prov("1"), res("a", "1", using)), ""},
		{"provider too late", baseOf(res("a", "1", using), prov("1")), "refers to the provider"},
		{"other provider", baseOf(prov("2"), res("a", "1", using)), "refers to the provider"},
		{"provider gone, to be created again", baseOf(res("a", "1", using, `"pendingReplacement":true`)), ""},
		{"provider without ID", baseOf(prov(""), res("a", "1", `"provider":"urn:pulumi:dev::web::pulumi:providers:t::p::04da6b54-80e4-46f7-96ec-b56ff0331ba9"`)), ""},
		{"no reference", baseOf(res("a", "1", `"provider":"x"`)), "has the form URN::ID"},
		{"reference to something else", baseOf(res("a", "1", `"provider":"$a::1"`)), "names a provider resource"},
		{"provider of a wrong URN", baseOf(`{"urn":"$p","custom":true,"id":"1","type":"pulumi:providers:t"}`), "provider $p cannot be referred to"},
		{"disputed alias", baseOf(res("a", "1", `"aliases":["$z"]`), res("b", "2", `"aliases":["$z"]`), res("c", "3", deps("a"))), "resources $a and $b have the same alias $z"},
		{"snippet without uuid", `{"version":4,"deployment":{"snippets":[{"name":"n"}]}}`, "a snippet has no uuid"},
		{"snippets of one uuid", `{"version":4,"deployment":{"snippets":[{"uuid":"n"},{"uuid":"n"}]}}`, `two snippets have the uuid "n"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			result, text := mustReplay(t, test.base)
			want := long(test.want)
			if (result.Integrity == "") != (want == "") || !strings.Contains(result.Integrity, want) {
				t.Errorf("integrity %q, want %q", result.Integrity, want)
			}
			if noted := strings.Contains(text, `"metadata":{"integrity_error":{"version":"`); noted != (want != "") {
				t.Errorf("noted %t in %s", noted, text)
			}
		})
	}
	_, text := mustReplay(t, `{"version":3,"deployment":{"metadata":{"other":1 ,"integrity_error":{"error":"old"}}}}`)
	has(t, text, `"metadata":{"other":1}`)
	_, text = mustReplay(t, `{"version":3,"deployment":{"resources":[`+b+`],"metadata":{ "integrity_error":{"error":"old"} , "other":1}}}`)
	has(t, text, `"other":1}`, `"integrity_error":{"version":"3","error":"resource `)
	if strings.Contains(text, "old") {
		t.Errorf("the old error stays: %s", text)
	}
}

// Schema versions 1 and 2 do not say which input depends on what.
func TestOldSchemas(t *testing.T) {
	old := res("b", "2", `"inputs":{"x":1,"y":2}`, deps("a"))
	for version, want := range map[int]bool{1: true, 2: true, 3: false} {
		_, text := mustReplay(t, fmt.Sprintf(`{"version":%d,"deployment":{"resources":[%s,%s]}}`, version, a, old))
		if got := strings.Contains(text, long(`"propertyDependencies":{"x":["$a"],"y":["$a"]}`)); got != want {
			t.Errorf("version %d: %s", version, text)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct{ raw, want string }{
		{abc, ""},
		{`{"version":1,"deployment":{}}`, ""},
		{`{"version":2,"deployment":{}}`, ""},
		{`{"version":3,"deployment":null}`, ""},
		{`{"version":3,"deployment":{"manifest":{},"resources":null}}`, ""},
		{`{"version":4,"features":["views","byteString"],"deployment":{}}`, ""},
		{``, "cannot be read"},
		{`{}`, `no "deployment" member`},
		{`{"version":3}`, `no "deployment" member`},
		{`{"deployment":{}}`, "version 0 is too old"},
		{`{"version":5,"deployment":{}}`, "version 5 is too new"},
		{`{"version":"3","deployment":{}}`, "version is not a whole number"},
		{`{"version":4,"features":["views","warp"],"deployment":{}}`, `not known: ["warp"]`},
		{`{"version":3,"deployment":[]}`, "is not an object"},
		{`{"version":3,"deployment":{"resources":{}}}`, "resources is not an array"},
		{`{"version":3,"deployment":{"resources":[{"urn":"u"}]}}`, "resource 0 has no urn or no type"},
		{`{"version":3,"deployment":{"pending_operations":[{}]}}`, "operation has no type"},
		{`{"version":3,"deployment":{"secrets_providers":1}}`, "the secrets provider is not an object"},
		{`{"version":3,"deployment":{}}{}`, "after the JSON value"},
	} {
		err := journal.Validate([]byte(test.raw))
		if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, errs.Invalid) || !strings.Contains(errs.Public(err), test.want)) {
			t.Errorf("%s: %v, want %q", test.raw, err, test.want)
		}
	}
}

func TestResourceCount(t *testing.T) {
	for raw, want := range map[string]int{abc: 3, `{"version":3,"deployment":null}`: 0, ``: 0, `{"version":3,"deployment":{"resources":null}}`: 0} {
		if n, err := journal.ResourceCount([]byte(raw)); err != nil || n != want {
			t.Errorf("%s: %d, %v", raw, n, err)
		}
	}
	if _, err := journal.ResourceCount([]byte(`[]`)); !errors.Is(err, errs.Invalid) {
		t.Errorf("broken: %v", err)
	}
}

// A few megabytes that multiply when names are rewritten do not fill the memory.
func TestAmplification(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	const times = 100
	var children, users []string
	for i := range times {
		children = append(children, res(fmt.Sprintf("c%d", i), "1", `"parent":"$p"`))
		users = append(users, res(fmt.Sprintf("u%d", i), "1", fmt.Sprintf(`"provider":"urn:pulumi:dev::web::pulumi:providers:t::p::%d"`, i)))
	}
	names := slices.Repeat([]string{"a"}, times)
	for _, test := range []struct {
		name    string
		base    string
		entries []string
	}{
		{"alias", baseOf(res("b", "2", deps(names...))), []string{success(1, res(huge, "1", `"aliases":["$a"]`))}},
		{"alias of a parent", baseOf(append([]string{`{"urn":"urn:pulumi:dev::web::` + huge + `::q","type":"t","aliases":["$p"]}`}, children...)...), nil},
		{"vanished parent", baseOf(append([]string{res(huge, "1"), res("p", "1", `"parent":"$`+huge+`"`)}, children...)...), []string{kind(3, 1, "", `"removeOld":1`)}},
		{"provider", baseOf(append([]string{`{"urn":"urn:pulumi:dev::web::pulumi:providers:t::p","type":"pulumi:providers:t","custom":true,"id":"` + huge + `"}`}, users...)...), []string{"-", begin(2, "", "")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options
			opts.Salvage = true
			base, entries := []byte(long(test.base)), lines(t, test.entries)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			result, err := journal.Replay(base, entries, opts)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 200 {
				t.Errorf("%d MiB were needed", used)
			}
			if len(result.Deployment) > 40<<20 {
				t.Errorf("%d bytes came out", len(result.Deployment))
			}
			if test.name != "vanished parent" && result.Integrity == "" {
				t.Error("nothing says that names were not rewritten")
			}
		})
	}
}
