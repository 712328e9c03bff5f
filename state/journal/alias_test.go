package journal_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/state/journal"
)

// A name can change twice at once: by an alias, and with the parent's type.
func TestAliasOfWhatIsRenamedAgain(t *testing.T) {
	base := `{"version":3,"deployment":{"resources":[{"urn":"$d","type":"t:m:T","custom":true,"id":"3","dependencies":["$x"]}]}}`
	result, err := journal.Replay([]byte(long(base)), lines(t, []string{
		success(1, `{"urn":"urn:pulumi:dev::web::my:B::p","type":"my:B","custom":false,"aliases":["urn:pulumi:dev::web::my:A::p"]}`),
		success(2, `{"urn":"urn:pulumi:dev::web::my:A%t:m:T::c","type":"t:m:T","custom":true,"id":"1","parent":"urn:pulumi:dev::web::my:A::p","aliases":["$x"]}`),
	}), options)
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(t, result.Deployment); got != "p c:1^p d:3<c" || result.Integrity != "" {
		t.Errorf("got %s, integrity %q", got, result.Integrity)
	}
}

// The same journal gives the same bytes every time, whatever order a map has.
func TestReplayIsDeterministic(t *testing.T) {
	base := baseOf(res("c", "3", deps("x", "y", "z")))
	entries := []string{
		begin(8, "creating", res("m", "")), begin(9, "creating", res("n", "")), begin(7, "creating", res("o", "")),
		success(1, res("a", "1", `"aliases":["$b","$x","$y","$z"]`)), success(2, res("b", "2", `"aliases":["$a"]`)),
		`"kind":8,"operationID":3,"extensionRef":"r","extension":{}`, `"kind":8,"operationID":4,"extensionRef":"s","extension":{}`,
	}
	_, first := mustReplay(t, base, entries...)
	has(t, first, long(deps("b", "b", "b")))
	for range 50 {
		if _, again := mustReplay(t, base, entries...); again != first {
			t.Fatalf("got %s\nfirst %s", again, first)
		}
	}
}

// The type of the stack itself is not part of its children's.
func TestAliasOfTheStackLeavesChildren(t *testing.T) {
	root := func(name, more string) string {
		return `{"urn":"urn:pulumi:dev::web::pulumi:pulumi:Stack::` + name + `","type":"pulumi:pulumi:Stack"` + more + `}`
	}
	base := baseOf(root("o", ""), res("a", "1", `"parent":"urn:pulumi:dev::web::pulumi:pulumi:Stack::o"`))
	_, text := mustReplay(t, base, success(1, root("n", `,"aliases":["urn:pulumi:dev::web::pulumi:pulumi:Stack::o"]`), `"removeOld":0`))
	has(t, text, long(res("a", "1", `"parent":"urn:pulumi:dev::web::pulumi:pulumi:Stack::n"`)))
}

// A child that a refresh has given to an ancestor is still called by its old parents.
func TestAliasDoesNotRenameWhatMovedUp(t *testing.T) {
	base := baseOf(`{"urn":"urn:pulumi:dev::web::my:A::p","type":"my:A"}`,
		`{"urn":"urn:pulumi:dev::web::my:A%my:Q::q","type":"my:Q","parent":"urn:pulumi:dev::web::my:A::p"}`,
		`{"urn":"urn:pulumi:dev::web::my:A%my:Q%t:m:T::c","type":"t:m:T","custom":true,"id":"1","parent":"urn:pulumi:dev::web::my:A%my:Q::q"}`)
	_, text := mustReplay(t, base, kind(3, 1, "", `"removeOld":1`), `"kind":7,"operationID":0`,
		success(2, `{"urn":"urn:pulumi:dev::web::my:B::p","type":"my:B","aliases":["urn:pulumi:dev::web::my:A::p"]}`, `"removeOld":0`))
	has(t, text, `"urn":"urn:pulumi:dev::web::my:A$my:Q$t:m:T::c","type":"t:m:T","custom":true,"id":"1","parent":"urn:pulumi:dev::web::my:B::p"`)
}

// What is left to delete of a resource follows its successor, not its parent.
func TestAliasCountsMoreThanTheParents(t *testing.T) {
	base := `{"version":3,"deployment":{"resources":[
		{"urn":"urn:pulumi:dev::web::my:A%t:m:T::c","type":"t:m:T","custom":true,"id":"0","delete":true,"parent":"urn:pulumi:dev::web::my:A::p"},
		{"urn":"$d","type":"t:m:T","custom":true,"id":"3","dependencies":["urn:pulumi:dev::web::my:A%t:m:T::c"]}]}}`
	result, err := journal.Replay([]byte(long(base)), lines(t, []string{
		success(1, `{"urn":"urn:pulumi:dev::web::my:B::p","type":"my:B","custom":false,"aliases":["urn:pulumi:dev::web::my:A::p"]}`),
		success(2, `{"urn":"urn:pulumi:dev::web::my:B%t:m:T::n","type":"t:m:T","custom":true,"id":"1","parent":"urn:pulumi:dev::web::my:B::p","aliases":["urn:pulumi:dev::web::my:A%t:m:T::c"]}`),
	}), options)
	if err != nil {
		t.Fatal(err)
	}
	if got := summary(t, result.Deployment); got != "p n:1^p n:0^p! d:3<n" || result.Integrity != "" {
		t.Errorf("got %s, integrity %q", got, result.Integrity)
	}
}

// Entries can be replayed again, by several at once, and in part.
func TestReplayLeavesItsArgumentsAlone(t *testing.T) {
	base := []byte(long(abc))
	entries := lines(t, []string{
		`"kind":5,"operationID":0,"newSnapshot":{"resources":[` + a + `]}`,
		`"kind":9,"operationID":0,"snippets":[{"uuid":"1"}]`,
		`"kind":6,"operationID":0,"secretsProvider":{"type":"t"}`,
		success(1, res("n", "1", `"aliases":["$a"]`), `"deleteOld":0`),
		success(2, res("n", "2"), `"deleteNew":1`),
	})
	first, err := journal.Replay(base, entries[:1], options)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := journal.Replay(base, entries, options); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	again, err := journal.Replay(base, entries[:1], options)
	if err != nil || !bytes.Equal(first.Deployment, again.Deployment) {
		t.Errorf("%v: the second time gives %s, the first gave %s", err, again.Deployment, first.Deployment)
	}
}

// The type of a child holds its parents' types, so it changes with its parent's.
func TestAliasOfAParentRenamesChildren(t *testing.T) {
	base := `{"version":3,"deployment":{"resources":[
		{"urn":"urn:pulumi:dev::web::my:A::p","type":"my:A","custom":false},
		{"urn":"urn:pulumi:dev::web::my:A$t:m:T::c","type":"t:m:T","custom":true,"id":"1","parent":"urn:pulumi:dev::web::my:A::p"},
		{"urn":"urn:pulumi:dev::web::my:A$t:m:T$t:m:T::g","type":"t:m:T","custom":true,"id":"2","parent":"urn:pulumi:dev::web::my:A$t:m:T::c"},
		{"urn":"urn:pulumi:dev::web::t:m:T::d","type":"t:m:T","custom":true,"id":"3","dependencies":["urn:pulumi:dev::web::my:A$t:m:T$t:m:T::g"]}]}}`
	raw := `{"version":1,"kind":1,"sequenceID":1,"operationID":1,"removeOld":0,"state":{"urn":"urn:pulumi:dev::web::my:B::p","type":"my:B","custom":false,"aliases":["urn:pulumi:dev::web::my:A::p"]}}`
	e, err := journal.Parse(jsontext.Value(raw))
	if err != nil {
		t.Fatal(err)
	}
	result, err := journal.Replay([]byte(base), []journal.Entry{e}, options)
	if err != nil {
		t.Fatal(err)
	}
	text := string(result.Deployment)
	if strings.Contains(text, "my:A") || strings.Contains(text, "aliases") || result.Integrity != "" {
		t.Errorf("integrity %q: %s", result.Integrity, text)
	}
	if strings.Count(text, "urn:pulumi:dev::web::my:B$t:m:T$t:m:T::g") != 2 {
		t.Errorf("the grandchild is not renamed: %s", text)
	}
}
