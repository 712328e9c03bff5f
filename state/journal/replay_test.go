package journal_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

// A table test writes URNs short: $name stands for urn:pulumi:dev::web::t:m:T::name,
// and a percent sign for the dollar sign that joins types.
const short = "urn:pulumi:dev::web::t:m:T::"

func long(text string) string { return strings.NewReplacer("$", short, "%", "$").Replace(text) }

// res is a resource: its name, its ID if it has one, and more members.
func res(name, id string, more ...string) string {
	custom := fmt.Sprintf(`,"custom":%t`, id != "")
	if id != "" {
		custom += fmt.Sprintf(`,"id":%q`, id)
	}
	text := fmt.Sprintf(`{"urn":"$%s","type":"t:m:T"%s`, name, custom)
	for _, m := range more {
		text += "," + m
	}
	return text + "}"
}

func deps(names ...string) string {
	return `"dependencies":["$` + strings.Join(names, `","$`) + `"]`
}

func baseOf(resources ...string) string {
	return `{"version":3,"deployment":{"resources":[` + strings.Join(resources, ",") + `]}}`
}

// lines numbers entries from 1; a line "-" is an entry that was lost.
func lines(t failer, texts []string) []journal.Entry {
	t.Helper()
	var entries []journal.Entry
	for i, text := range texts {
		if text == "-" {
			continue
		}
		raw := fmt.Sprintf(`{"version":1,"sequenceID":%d,%s}`, i+1, long(text))
		e, err := journal.Parse(jsontext.Value(raw))
		if err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func begin(op int, typ, resource string) string {
	if typ == "" {
		return fmt.Sprintf(`"kind":0,"operationID":%d`, op)
	}
	return fmt.Sprintf(`"kind":0,"operationID":%d,"operation":{"type":%q,"resource":%s}`, op, typ, resource)
}

func kind(kind, op int, state string, more ...string) string {
	text := fmt.Sprintf(`"kind":%d,"operationID":%d`, kind, op)
	if state != "" {
		text += `,"state":` + state
	}
	for _, m := range more {
		text += "," + m
	}
	return text
}

func success(op int, state string, more ...string) string { return kind(1, op, state, more...) }

// summary describes a deployment: a word per resource and, after a bar, per operation.
func summary(t failer, raw []byte) string {
	t.Helper()
	type some struct {
		URN          string              `json:"urn"`
		ID           string              `json:"id"`
		Delete       bool                `json:"delete"`
		Pending      bool                `json:"pendingReplacement"`
		Parent       string              `json:"parent"`
		Dependencies []string            `json:"dependencies"`
		Properties   map[string][]string `json:"propertyDependencies"`
		DeletedWith  string              `json:"deletedWith"`
		ViewOf       string              `json:"viewOf"`
		ReplaceWith  []string            `json:"replaceWith"`
		Provider     string              `json:"provider"`
		Aliases      []string            `json:"aliases"`
		Mark         string              `json:"mark"`
	}
	var u struct {
		Deployment struct {
			Resources  []some `json:"resources"`
			Operations []struct {
				Resource some   `json:"resource"`
				Type     string `json:"type"`
			} `json:"pending_operations"`
		} `json:"deployment"`
	}
	if err := json.Unmarshal(raw, &u); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	name := func(urn string) string { return urn[strings.LastIndex(urn, "::")+2:] }
	names := func(urns []string) string {
		var all []string
		for _, urn := range urns {
			all = append(all, name(urn))
		}
		return strings.Join(all, ",")
	}
	var words []string
	for _, r := range u.Deployment.Resources {
		word := name(r.URN)
		for _, part := range []struct{ prefix, value string }{
			{":", r.ID}, {"=", r.Mark}, {"^", name("::" + r.Parent)}, {"<", names(r.Dependencies)},
			{"<a", names(r.Properties["a"])}, {"~", name("::" + r.DeletedWith)}, {"%", name("::" + r.ViewOf)}, {"&", names(r.ReplaceWith)},
			{"@", strings.TrimPrefix(r.Provider, "urn:pulumi:dev::web::pulumi:providers:t::")}, {"was ", names(r.Aliases)},
		} {
			if part.value != "" {
				word += part.prefix + part.value
			}
		}
		if r.Delete {
			word += "!"
		}
		if r.Pending {
			word += "?"
		}
		words = append(words, word)
	}
	if len(u.Deployment.Operations) > 0 {
		words = append(words, "|")
	}
	for _, o := range u.Deployment.Operations {
		words = append(words, o.Type+":"+name(o.Resource.URN))
	}
	return strings.Join(words, " ")
}

type replayTest struct {
	name    string
	base    string
	entries []string
	want    string
	skipped int
}

func (test replayTest) run(t *testing.T, opts journal.Options) {
	t.Run(test.name, func(t *testing.T) {
		result, err := journal.Replay([]byte(long(test.base)), lines(t, test.entries), opts)
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(t, result.Deployment); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		if len(result.Skipped) != test.skipped {
			t.Errorf("skipped %q", result.Skipped)
		}
	})
}

var (
	a, b, c = res("a", "1"), res("b", "2", deps("a")), res("c", "3", deps("b"))
	abc     = baseOf(a, b, c)
)

func marked(name, id, mark string, more ...string) string {
	return res(name, id, append([]string{fmt.Sprintf(`"mark":%q`, mark)}, more...)...)
}

func TestReplay(t *testing.T) {
	const prov = `{"urn":"urn:pulumi:dev::web::pulumi:providers:t::p","custom":true,"id":"1","type":"pulumi:providers:t"}`
	for _, test := range []replayTest{
		{name: "nothing", base: abc, want: "a:1 b:2<a c:3<b"},
		{name: "empty base", base: "", want: ""},
		{name: "null base", base: `{"version":3,"deployment":null}`, want: ""},
		{name: "create", base: baseOf(a), want: "n:9<a a:1", // the order within the list is the client's
			entries: []string{success(1, res("n", "9", deps("a")))}},
		{name: "begin", base: baseOf(a), want: "a:1 | creating:n deleting:a",
			entries: []string{begin(1, "creating", res("n", "")), begin(2, "", ""), begin(3, "deleting", a)}},
		{name: "same", base: abc, want: "a:1=s b:2<a c:3<b",
			entries: []string{begin(1, "", ""), success(1, marked("a", "1", "s"), `"removeOld":0`)}},
		{name: "failure changes nothing", base: abc, want: "a:1 b:2<a c:3<b",
			entries: []string{begin(1, "updating", a), kind(2, 1, marked("a", "1", "f"), `"removeOld":0,"deleteOld":1`)}},
		{name: "delete", base: abc, want: "a:1 b:2<a",
			entries: []string{begin(1, "deleting", c), success(1, "", `"removeOld":2`)}},
		{name: "replace, create first", base: baseOf(a), want: "a:2 a:1!",
			entries: []string{success(1, res("a", "2"), `"deleteOld":0`)}},
		{name: "replace, then deleted", base: baseOf(a), want: "a:2",
			entries: []string{success(1, res("a", "2"), `"deleteOld":0`), begin(2, "deleting", a), success(2, "", `"removeOld":0`)}},
		{name: "replace, delete first", base: baseOf(a), want: "a:1?",
			entries: []string{begin(1, "deleting", a), success(1, "", `"pendingReplacementOld":0`)}},
		{name: "replace, created again", base: baseOf(a), want: "a:2",
			entries: []string{success(1, "", `"pendingReplacementOld":0`), success(2, res("a", "2"), `"removeOld":0`)}},
		{name: "new one marked for deletion", base: "", want: "a:1! a:2",
			entries: []string{success(1, a), success(2, res("a", "2"), `"deleteNew":1`)}},
		{name: "new one waits to be created again", base: "", want: "a:1?",
			entries: []string{success(1, a), success(2, "", `"pendingReplacementNew":1`)}},
		{name: "new one removed", base: "", want: "b:2<a",
			entries: []string{success(7, a), success(2, b), success(3, "", `"removeNew":7`)}},
		{name: "new one updated", base: "", want: "b:2<a a:1=u",
			entries: []string{success(7, a), success(2, b), success(3, marked("a", "1", "u"), `"removeNew":7`)}},
		{name: "pending replacement given up", base: baseOf(res("a", "1", `"pendingReplacement":true`)), want: "",
			entries: []string{begin(1, "", ""), success(1, "", `"removeOld":0`)}},
		{name: "outputs of an old one", base: abc, want: "a:1=o b:2<a c:3<b",
			entries: []string{kind(4, 1, marked("a", "1", "o"), `"removeOld":0`)}},
		{name: "outputs of a new one keep its place", base: "", want: "a:1=o b:2<a",
			entries: []string{success(1, a), success(2, b), kind(4, 3, marked("a", "1", "o"), `"removeNew":1`)}},
		{name: "refresh in place", base: abc, want: "a:1=r b:2<a c:3<b",
			entries: []string{begin(1, "", ""), kind(3, 1, marked("a", "1", "r"), `"removeOld":0`)}},
		{name: "refresh of a new one", base: "", want: "a:1=r",
			entries: []string{success(1, a), kind(3, 2, marked("a", "1", "r"), `"removeNew":1`)}},
		{name: "a refresh can be named", base: abc, want: "b:2 c:3<b a:1=u", // the order is the entries'
			entries: []string{kind(3, 1, marked("a", "1", "r"), `"removeOld":0`), success(2, b, `"removeOld":1`), success(3, c, `"removeOld":2`), success(4, marked("a", "1", "u"), `"removeNew":1`)}},
		{name: "refresh finds a new one gone", base: "", want: "",
			entries: []string{success(1, a), kind(3, 2, "", `"removeNew":1`)}},
		{name: "state in place wins over marks", base: baseOf(a), want: "a:1=r",
			entries: []string{kind(3, 1, marked("a", "1", "r"), `"removeOld":0`), success(2, "", `"pendingReplacementOld":0`)}},
		{name: "refreshed, then deleted", base: baseOf(a), want: "",
			entries: []string{kind(3, 1, marked("a", "1", "r"), `"removeOld":0`), success(2, "", `"removeOld":0`)}},
		{name: "rebuilt numbering", base: abc, want: "b:2 c:3=u<b",
			entries: []string{kind(3, 1, "", `"removeOld":0`), `"kind":7,"operationID":0`, success(2, b, `"removeOld":0`), success(3, marked("c", "3", "u", deps("b")), `"removeOld":1`)}},
		{name: "rebuilt at the end", base: baseOf(a), want: "n:2 a:1",
			entries: []string{success(1, res("n", "2")), `"kind":7,"operationID":0`}},
		{name: "rebuilding keeps creations under way", base: "", want: "| creating:n",
			entries: []string{begin(1, "creating", res("n", "")), begin(2, "updating", res("m", "1")), `"kind":7,"operationID":0`}},
		{name: "write", base: abc, want: "a:1=w b:2<a",
			entries: []string{`"kind":6,"operationID":0,"secretsProvider":{"type":"x"}`, `"kind":5,"operationID":0,"newSnapshot":{"resources":[` + marked("a", "1", "w") + `,` + b + `]}`, success(1, b, `"removeOld":1`)}[:2]},
		{name: "operations of the base", want: "| creating:n creating:o", entries: []string{begin(1, "creating", res("n", ""))},
			base: `{"version":3,"deployment":{"pending_operations":[{"type":"creating","resource":` + res("o", "") + `},{"type":"updating","resource":` + res("u", "") + `}]}}`},

		{name: "refresh prunes", base: baseOf(a, res("b", "2", deps("a"), `"propertyDependencies":{"a":["$a"],"z":["$a"]},"deletedWith":"$a","replaceWith":["$a"],"parent":"$a"`)), want: "b:2",
			entries: []string{kind(3, 1, "", `"removeOld":0`)}},
		{name: "refresh keeps what is there", base: baseOf(a, res("x", "7"), res("b", "2", deps("a", "x"), `"propertyDependencies":{"a":["$a","$x"]},"deletedWith":"$x","replaceWith":["$x","$a"],"parent":"$x"`)), want: "x:7 b:2^x<x<ax~x&x",
			entries: []string{kind(3, 1, "", `"removeOld":0`)}},
		{name: "refresh goes up to the nearest ancestor", base: baseOf(a, res("b", "2", `"parent":"$a"`), res("c", "3", `"parent":"$b"`), res("d", "4", `"parent":"$c"`)), want: "a:1 d:4^a",
			entries: []string{kind(3, 1, "", `"removeOld":1`), kind(3, 2, "", `"removeOld":2`)}},
		{name: "without refresh nothing is pruned", base: baseOf(a, b), want: "b:2<a",
			entries: []string{success(1, "", `"removeOld":0`)}},
		{name: "a refresh as a step counts", base: baseOf(a, b), want: "b:2",
			entries: []string{success(1, "", `"removeOld":0,"isRefresh":true`)}},

		{name: "alias", base: abc, want: "n:1 b:2<n c:3<b",
			entries: []string{success(1, res("n", "1", `"aliases":["$a","$a"]`), `"removeOld":0`)}},
		{name: "alias everywhere", base: baseOf(a, res("b", "2", deps("a"), `"propertyDependencies":{"a":["$a"]},"deletedWith":"$a","replaceWith":["$a"],"parent":"$a","viewOf":"$a"`)), want: "n:1 b:2^n<n<an~n%n&n",
			entries: []string{success(1, res("n", "1", `"aliases":["$a"]`), `"removeOld":0`)}},
		{name: "refresh does not touch a parent that stands too late", base: baseOf(res("b", "2", `"parent":"$a"`), a), want: "b:2^a a:1",
			entries: []string{kind(3, 1, a, `"removeOld":1`)}},
		{name: "disputed alias is left alone", base: baseOf(res("a", "1", `"aliases":["$z"]`), res("b", "2", `"aliases":["$z"]`), res("c", "3", deps("z"))), want: "a:1 b:2 c:3<z"},
		{name: "alias of one that swapped names", base: baseOf(res("c", "3", deps("x"))), want: "b:1 a:2 c:3<b",
			entries: []string{success(1, res("a", "1", `"aliases":["$b","$x"]`)), success(2, res("b", "2", `"aliases":["$a"]`))}},
		{name: "swapped names", base: "", want: "b:1 a:2 c:3<a",
			entries: []string{success(1, res("a", "1", `"aliases":["$b"]`)), success(2, res("b", "2", `"aliases":["$a"]`)), success(3, res("c", "3", deps("b")))}},
		{name: "provider renamed", base: baseOf(prov, res("a", "1", `"provider":"urn:pulumi:dev::web::pulumi:providers:t::p::1"`)), want: "q:1 a:1@q::1",
			entries: []string{success(1, strings.Replace(prov, "t::p", "t::q", 1)[:len(prov)-1]+`,"aliases":["urn:pulumi:dev::web::pulumi:providers:t::p"]}`, `"removeOld":0`)}},
	} {
		test.run(t, options)
	}
}
