package journal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/state/journal"
)

const someState = `{"urn":"urn:pulumi:dev::web::aws:s3:Bucket::a","custom":true,"id":"i","type":"aws:s3:Bucket"}`

func TestParse(t *testing.T) {
	for _, test := range []struct{ name, raw, want string }{
		{"begin", `{"version":1,"kind":0,"sequenceID":2,"operationID":1,"removeOld":null,"removeNew":null}`, ""},
		{"begin with operation", `{"version":1,"kind":0,"sequenceID":2,"operationID":1,"operation":{"type":"creating","resource":` + someState + `}}`, ""},
		{"success without state", `{"version":1,"kind":1,"sequenceID":2,"operationID":1}`, ""},
		{"unknown field", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"someday":{"a":[1]}}`, ""},
		{"null payload is none", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":null,"operation":null}`, ""},
		{"snippets absent", `{"version":1,"kind":9,"sequenceID":2,"operationID":0}`, ""},
		{"rebuilt", `{"version":1,"kind":7,"sequenceID":2,"operationID":0}`, ""},
		{"null dependencies", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"urn":"u","type":"t","dependencies":null,"propertyDependencies":{"a":null},"resourceHooks":null}}`, ""},

		{"not JSON", `{`, "journal entry"},
		{"not an object", `[]`, "not an object"},
		{"something after", `{"version":1,"kind":7,"sequenceID":2,"operationID":0} 1`, "after the JSON value"},
		{"duplicate name", `{"version":1,"version":1,"kind":7,"sequenceID":2,"operationID":0}`, "duplicate"},
		{"duplicate name inside", `{"version":1,"kind":1,"sequenceID":2,"operationID":0,"state":{"urn":"u","type":"t","inputs":{"a":1,"a":2}}}`, "duplicate"},
		{"bad UTF-8", "{\"version\":1,\"kind\":7,\"sequenceID\":2,\"operationID\":0,\"x\":\"\xff\"}", "UTF-8"},
		{"no version", `{"kind":7,"sequenceID":2,"operationID":0}`, "version 0 is unknown"},
		{"next version", `{"version":2,"kind":7,"sequenceID":2,"operationID":0}`, "version 2 is unknown"},
		{"no kind", `{"version":1,"sequenceID":2,"operationID":0}`, "kind is missing"},
		{"next kind", `{"version":1,"kind":10,"sequenceID":2,"operationID":0}`, "the kind is unknown"},
		{"huge kind", `{"version":1,"kind":9223372036854775807,"sequenceID":2,"operationID":0}`, "the kind is unknown"},
		{"kind is text", `{"version":1,"kind":"7","sequenceID":2,"operationID":0}`, "kind is not a whole number"},
		{"sequence 0", `{"version":1,"kind":7,"sequenceID":0,"operationID":0}`, "sequenceID must be"},
		{"no sequence", `{"version":1,"kind":7,"operationID":0}`, "sequenceID must be"},
		{"fraction", `{"version":1,"kind":7,"sequenceID":1.5,"operationID":0}`, "sequenceID is not a whole number"},
		{"too large", `{"version":1,"kind":7,"sequenceID":9223372036854775808,"operationID":0}`, "sequenceID is not a whole number"},
		{"negative index", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"removeOld":-1}`, "removeOld is not a whole number"},
		{"negative operation", `{"version":1,"kind":1,"sequenceID":2,"operationID":-1}`, "operationID is not a whole number"},
		{"outputs without state", `{"version":1,"kind":4,"sequenceID":2,"operationID":1,"removeNew":1}`, "needs state"},
		{"outputs of nothing", `{"version":1,"kind":4,"sequenceID":2,"operationID":1,"state":` + someState + `}`, "needs removeOld or removeNew"},
		{"write without snapshot", `{"version":1,"kind":5,"sequenceID":2,"operationID":0}`, "needs newSnapshot"},
		{"write of null", `{"version":1,"kind":5,"sequenceID":2,"operationID":0,"newSnapshot":null}`, "needs newSnapshot"},
		{"no secrets provider", `{"version":1,"kind":6,"sequenceID":2,"operationID":0}`, "needs secretsProvider"},
		{"secrets provider without type", `{"version":1,"kind":6,"sequenceID":2,"operationID":0,"secretsProvider":{"state":{}}}`, "needs secretsProvider"},
		{"no extension", `{"version":1,"kind":8,"sequenceID":2,"operationID":3,"extensionRef":"r"}`, "needs extension"},
		{"no extension reference", `{"version":1,"kind":8,"sequenceID":2,"operationID":3,"extension":{}}`, "needs extensionRef"},
		{"state without urn", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"type":"t"}}`, "has no urn or no type"},
		{"state without type", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"urn":"u"}}`, "has no urn or no type"},
		{"state is text", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":"s"}`, "state is not an object"},
		{"urn is a number", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"urn":1,"type":"t"}}`, "urn is not a string"},
		{"delete is text", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"urn":"u","type":"t","delete":"no"}}`, "delete is not a boolean"},
		{"dependencies is an object", `{"version":1,"kind":1,"sequenceID":2,"operationID":1,"state":{"urn":"u","type":"t","dependencies":{}}}`, "dependencies is not an array"},
		{"operation without type", `{"version":1,"kind":0,"sequenceID":2,"operationID":1,"operation":{"resource":` + someState + `}}`, "operation has no type"},
		{"operation without resource", `{"version":1,"kind":0,"sequenceID":2,"operationID":1,"operation":{"type":"creating"}}`, "operation has no type or no resource"},
		{"snippets is an object", `{"version":1,"kind":9,"sequenceID":2,"operationID":0,"snippets":{}}`, "snippets is not an array"},
		{"a snippet is text", `{"version":1,"kind":9,"sequenceID":2,"operationID":0,"snippets":["s"]}`, "a snippet is not an object"},
		{"broken snapshot", `{"version":1,"kind":5,"sequenceID":2,"operationID":0,"newSnapshot":{"resources":[{}]}}`, "resource 0 has no urn"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e, err := journal.Parse(jsontext.Value(test.raw))
			if test.want == "" {
				if err != nil || e.Sequence() != 2 || string(e.Raw()) != test.raw {
					t.Fatalf("%v, sequence %d, raw %s", err, e.Sequence(), e.Raw())
				}
				return
			}
			if !errors.Is(err, errs.Invalid) || !strings.Contains(errs.Public(err), test.want) {
				t.Errorf("error %v, want errs.Invalid with %q", err, test.want)
			}
		})
	}
}

func TestEqual(t *testing.T) {
	parse := func(raw string) journal.Entry {
		e, err := journal.Parse(jsontext.Value(raw))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := parse(`{"version":1,"kind":7,"sequenceID":2,"operationID":0}`)
	if !e.Equal(parse(`{ "version":1, "kind":7,"sequenceID":2,"operationID":0 }`)) {
		t.Error("white space makes a difference")
	}
	if e.Equal(parse(`{"version":1,"kind":7,"sequenceID":2,"operationID":1}`)) {
		t.Error("different entries are equal")
	}
	if e.Kind() != journal.Rebuilt {
		t.Errorf("kind %d", e.Kind())
	}
}

func TestCheck(t *testing.T) {
	entries := func(sequences ...int64) []journal.Entry {
		var all []entry
		for _, n := range sequences {
			all = append(all, entry{Version: 1, Kind: 7, Sequence: n})
		}
		return parse(t, all)
	}
	for _, test := range []struct {
		name      string
		sequences []int64
		want      *journal.Gap
	}{
		{"nothing", nil, nil},
		{"whole", []int64{1, 2, 3}, nil},
		{"any order, twice", []int64{3, 1, 2, 3, 1}, nil},
		{"first missing", []int64{2, 3}, &journal.Gap{Missing: 1, Count: 1, Last: 3}},
		{"two holes", []int64{1, 3, 9, 8}, &journal.Gap{Missing: 2, Count: 5, Last: 9}},
		{"far away", []int64{1, 1 << 62}, &journal.Gap{Missing: 2, Count: 1<<62 - 2, Last: 1 << 62}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := journal.Check(entries(test.sequences...))
			var gap *journal.Gap
			if errors.As(err, &gap); test.want == nil && err != nil || test.want != nil && (gap == nil || *gap != *test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if gap != nil && (errs.KindOf(err) != errs.Conflict || !strings.Contains(errs.Public(err), "journal lacks")) {
				t.Errorf("kind %v, public %q", errs.KindOf(err), errs.Public(err))
			}
		})
	}
	conflict := append(entries(1, 2), parse(t, []entry{{Version: 1, Kind: 7, Sequence: 2, Operation: 5}})...)
	if err := journal.Check(conflict); !errors.Is(err, errs.Conflict) || !strings.Contains(errs.Public(err), "entry 2 is there twice") {
		t.Errorf("a conflict gives %v", err)
	}
	if _, err := journal.Replay(nil, conflict, options); !errors.Is(err, errs.Conflict) {
		t.Errorf("replaying a conflict gives %v", err)
	}
	salvage := options
	salvage.Salvage = true
	if _, err := journal.Replay(nil, conflict, salvage); !errors.Is(err, errs.Conflict) {
		t.Errorf("salvaging a conflict gives %v", err)
	}
}
