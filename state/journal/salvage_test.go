package journal_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/state/journal"
)

func TestUnsoundJournalsAreRefused(t *testing.T) {
	rebuilt, write := `"kind":7,"operationID":0`, `"kind":5,"operationID":0,"newSnapshot":{}`
	for _, test := range []struct {
		name    string
		entries []string
		want    string
	}{
		{"removeOld", []string{success(1, "", `"removeOld":3`)}, "entry 1: it names base resource 3, the base has 3"},
		{"deleteOld", []string{success(1, "", `"deleteOld":4`)}, "base resource 4"},
		{"pendingReplacementOld", []string{success(1, "", `"pendingReplacementOld":9223372036854775807`)}, "the base has 3"},
		{"refresh", []string{kind(3, 1, a, `"removeOld":3`)}, "base resource 3"},
		{"refresh gone", []string{kind(3, 1, "", `"removeOld":3`)}, "base resource 3"},
		{"outputs", []string{kind(4, 1, a, `"removeOld":3`)}, "base resource 3"},
		{"removeNew", []string{success(1, "", `"removeNew":7`)}, "operation 7, which it names, has no success before it"},
		{"deleteNew", []string{success(1, a, `"deleteNew":7`)}, "operation 7"},
		{"pendingReplacementNew", []string{success(1, "", `"pendingReplacementNew":7`)}, "operation 7"},
		{"outputs of a failure", []string{kind(2, 1, a), kind(4, 2, a, `"removeNew":1`)}, "operation 1"},
		{"refresh of a new one", []string{kind(3, 1, a, `"removeNew":7`)}, "operation 7"},
		{"refresh of a new one gone", []string{kind(3, 1, "", `"removeNew":7`)}, "operation 7"},
		{"a success without state", []string{success(1, ""), success(2, "", `"removeNew":1`)}, "operation 1"},
		{"numbers after rebuilding", []string{kind(3, 1, "", `"removeOld":0`), rebuilt, success(2, "", `"removeOld":2`)}, "the base has 2"},
		{"operations before rebuilding", []string{kind(3, 1, a, `"removeOld":0`), rebuilt, success(2, "", `"removeNew":1`)}, "operation 1"},
		{"rebuilt in the middle", []string{success(1, a), rebuilt, begin(2, "", "")}, "entry 2: kind 7 replaces 1 new resources and is not the last entry"},
		{"write after a step", []string{begin(1, "", ""), write}, "entry 2: kind 5 comes after a step"},
		{"gap", []string{begin(1, "", ""), "-", write}, "the journal lacks entry 2 of 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			entries := lines(t, test.entries)
			_, err := journal.Replay([]byte(long(abc)), entries, options)
			if !errors.Is(err, errs.Invalid) && test.name != "gap" || !strings.Contains(errs.Public(err), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			salvage := options
			salvage.Salvage = true
			result, err := journal.Replay([]byte(long(abc)), entries, salvage)
			if err != nil || !result.Salvaged || result.Integrity != "" {
				t.Errorf("salvage: %v, %+v", err, result)
			}
		})
	}
	for _, base := range []string{"x", "[]", `{"deployment":[]}`, `{"deployment":{"resources":{}}}`, `{"deployment":{"resources":[1]}}`, `{"deployment":{}} x`} {
		if _, err := journal.Replay([]byte(base), nil, options); !errors.Is(err, errs.Invalid) {
			t.Errorf("base %s: %v", base, err)
		}
	}
}

func TestSalvage(t *testing.T) {
	salvage := options
	salvage.Salvage = true
	const p1 = `{"urn":"urn:pulumi:dev::web::pulumi:providers:t::p","custom":true,"id":"1","type":"pulumi:providers:t","mark":"base"}`
	using := func(id string) string { return `"provider":"urn:pulumi:dev::web::pulumi:providers:t::p::` + id + `"` }
	for _, test := range []replayTest{
		{name: "lost same keeps the base", base: abc, want: "a:1 b:2=u<a c:3<b",
			entries: []string{begin(1, "", ""), "-", begin(2, "updating", b), success(2, marked("b", "2", "u", deps("a")), `"removeOld":1`)}},
		{name: "what a lost same stood for comes first", base: abc, want: "a:1 b:2=u<a c:3<b",
			entries: []string{"-", success(2, marked("b", "2", "u", deps("a")), `"removeOld":1`)}},
		{name: "create after the gap", base: baseOf(a), want: "a:1 n:9<a",
			entries: []string{"-", success(2, res("n", "9", deps("a")))}},
		{name: "begin whose end was lost", base: baseOf(a), want: "a:1 | creating:n",
			entries: []string{begin(1, "creating", res("n", "")), "-", begin(2, "", "")}},
		{name: "numbering moved by what was lost", base: abc, want: "a:1 b:2<a c:3=u<b",
			entries: []string{begin(1, "", ""), "-", success(2, marked("c", "3", "u", deps("b")), `"removeOld":1`)}},
		{name: "delete by identity", base: abc, want: "a:1 b:2<a",
			entries: []string{"-", begin(2, "deleting", c), success(2, "", `"removeOld":1`)}},
		{name: "delete of a lost new one", base: baseOf(a), want: "",
			entries: []string{"-", begin(2, "deleting", a), success(2, "", `"removeNew":1`)}},
		{name: "delete of nothing known", base: baseOf(a), want: "a:1", skipped: 1,
			entries: []string{"-", begin(2, "deleting", res("a", "other")), success(2, "", `"removeOld":0`)}},
		{name: "delete without begin", base: baseOf(a), want: "a:1", skipped: 1,
			entries: []string{"-", success(2, "", `"removeOld":0`)}},
		{name: "vanished without identity", base: baseOf(a, b), want: "b:2",
			entries: []string{"-", begin(2, "", ""), kind(3, 2, "", `"removeOld":0`)}},
		{name: "vanished without begin", base: baseOf(a, b), want: "a:1 b:2<a", skipped: 1,
			entries: []string{"-", kind(3, 2, "", `"removeOld":0`)}},
		{name: "giving up what does not wait", base: baseOf(a), want: "a:1", skipped: 1,
			entries: []string{"-", begin(2, "", ""), success(2, "", `"removeOld":0`)}},
		{name: "giving up what waits", base: baseOf(res("a", "1", `"pendingReplacement":true`)), want: "",
			entries: []string{"-", begin(2, "", ""), success(2, "", `"removeOld":0`)}},
		{name: "replacement of a lost same", base: baseOf(a), want: "a:2 a:1!",
			entries: []string{"-", success(2, res("a", "2"), `"deleteNew":1`)}},
		{name: "outputs of a lost same", base: baseOf(res("a", "")), want: "a=o",
			entries: []string{"-", kind(4, 2, marked("a", "", "o"), `"removeNew":1`)}},
		{name: "outputs of a lost create", base: baseOf(b), want: "g=o b:2",
			entries: []string{"-", kind(4, 2, marked("g", "", "o"), `"removeNew":1`)}},
		{name: "same resource twice", base: baseOf(a), want: "a:1=u",
			entries: []string{"-", success(2, marked("a", "1", "s")), success(3, marked("a", "1", "u"), `"removeNew":1`)}},
		{name: "replaced without a trace", base: baseOf(a), want: "a:2 a:1!",
			entries: []string{"-", success(2, res("a", "2"))}},
		{name: "alias finds the old one", base: baseOf(res("z", "0"), a), want: "n:5 z:0",
			entries: []string{"-", success(2, res("n", "5", `"aliases":["$a"]`), `"removeOld":0`)}},
		{name: "the live one of a name comes first", base: baseOf(res("a", "0", `"delete":true`), a), want: "a:1 b:2<a a:0!",
			entries: []string{"-", success(2, b)}},
		{name: "what waits for its deletion is not updated", base: baseOf(res("a", "0", `"delete":true`), a), want: "a:1=u a:0!",
			entries: []string{"-", success(2, marked("a", "1", "u"), `"removeOld":0`)}},
		{name: "created again without a trace", base: baseOf(res("a", "1", `"pendingReplacement":true`)), want: "a:2",
			entries: []string{"-", success(2, res("a", "2"))}},
		{name: "numbering is looked up anew after rebuilding", base: abc, want: "b:2", skipped: 1,
			entries: []string{"-", begin(2, "deleting", res("x", "9")), success(2, "", `"removeOld":7`), begin(3, "", ""), kind(3, 3, "", `"removeOld":0`), `"kind":7,"operationID":0`, begin(4, "deleting", res("c", "3")), success(4, "", `"removeOld":0`)}},
		{name: "circle is cut at what is older", base: baseOf(a, b), want: "b:2 a:1=u<b",
			entries: []string{"-", success(2, marked("a", "1", "u", deps("b")), `"removeOld":0`)}},
		{name: "child of a lost create", base: "", want: "c:1",
			entries: []string{"-", success(2, res("c", "1", `"parent":"$p"`, deps("q")))}},
		{name: "provider of a lost same", base: baseOf(p1), want: "p:1=base n:2@p::1",
			entries: []string{"-", success(2, res("n", "2", using("1")))}},
		{name: "provider of a lost create", base: "", want: "p:7 n:2@p::7",
			entries: []string{"-", success(2, res("n", "2", using("7")))}},
		{name: "provider of a lost create that began", base: "", want: "p:7=begun n:2@p::7 | creating:p",
			entries: []string{begin(1, "creating", strings.NewReplacer(`"id":"1",`, "", "base", "begun").Replace(p1)), "-", success(2, res("n", "2", using("7")))}},
		{name: "provider of a lost replacement", base: baseOf(p1), want: "p:1=base n:2@p::1",
			entries: []string{"-", success(2, res("n", "2", using("7")))}},
		{name: "provider deleted while needed", base: baseOf(p1, res("n", "2", using("1"))), want: "p:1=base n:2@p::1",
			entries: []string{"-", begin(2, "deleting", p1), success(2, "", `"removeOld":0`)}},
		{name: "provider deleted although it was to be", base: baseOf(p1[:len(p1)-1]+`,"delete":true}`, res("n", "2", using("1"))), want: "p:1=base n:2@p::1",
			entries: []string{"-", begin(2, "deleting", p1), success(2, "", `"removeOld":0`)}},
		{name: "provider deleted with its parent", base: baseOf(a, p1[:len(p1)-1]+`,"parent":"$a"}`, res("n", "2", using("1"))), want: "p:1=base n:2@p::1",
			entries: []string{"-", begin(2, "deleting", p1), success(2, "", `"removeOld":1`), begin(3, "deleting", a), success(3, "", `"removeOld":0`)}},
		{name: "provider that waits for its deletion", base: baseOf(p1[:len(p1)-1]+`,"delete":true}`, strings.Replace(p1, `"1"`, `"2"`, 1)), want: "p:1=base! n:2@p::1 p:2=base",
			entries: []string{"-", success(2, res("n", "2", using("1")))}},
		{name: "provider that waits for its deletion does not serve others", base: baseOf(p1[:len(p1)-1] + `,"delete":true}`), want: "p:1=base! p:7 n:2@p::7",
			entries: []string{"-", success(2, res("n", "2", using("7")))}},
		{name: "provider of what is to be created again", base: baseOf(p1, res("n", "2", using("1"), `"pendingReplacement":true`)), want: "n:2@p::1?",
			entries: []string{"-", begin(2, "deleting", p1), success(2, "", `"removeOld":0`)}},
		{name: "late write", base: baseOf(a), want: "a:1", skipped: 1,
			entries: []string{begin(1, "", ""), `"kind":5,"operationID":0,"newSnapshot":{}`}},
		{name: "rebuilt in the middle", base: baseOf(a), want: "a:1=u n:1",
			entries: []string{success(1, res("n", "1")), `"kind":7,"operationID":0`, success(2, marked("a", "1", "u"), `"removeOld":1`)}},
	} {
		test.run(t, salvage)
	}
}

func TestSalvageKeepsTheOrderOfSoundLists(t *testing.T) {
	salvage := options
	salvage.Salvage = true
	names := []string{"q", "c", "x", "a", "m"}
	var resources []string
	for i, name := range names {
		resources = append(resources, res(name, fmt.Sprint(i)))
	}
	result, err := journal.Replay([]byte(long(baseOf(resources...))), lines(t, []string{"-", begin(1, "", "")}), salvage)
	if err != nil || !result.Salvaged {
		t.Fatal(err)
	}
	if got := summary(t, result.Deployment); got != "q:0 c:1 x:2 a:3 m:4" {
		t.Errorf("got %s", got)
	}
	if !slices.IsSorted(result.Features) {
		t.Errorf("features %v", result.Features)
	}
}
