package journal_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/state/journal"
)

// state is a resource state as the model engine knows it.
type state struct {
	URN          string              `json:"urn"`
	Custom       bool                `json:"custom"`
	Delete       bool                `json:"delete,omitzero"`
	ID           string              `json:"id,omitzero"`
	Type         string              `json:"type"`
	Inputs       jsontext.Value      `json:"inputs,omitzero"`
	Outputs      map[string]int      `json:"outputs,omitempty"`
	Parent       string              `json:"parent,omitzero"`
	Dependencies []string            `json:"dependencies,omitempty"`
	Properties   map[string][]string `json:"propertyDependencies,omitempty"`
	Provider     string              `json:"provider,omitzero"`
	Pending      bool                `json:"pendingReplacement,omitzero"`
	Aliases      []string            `json:"aliases,omitempty"`
	DeletedWith  string              `json:"deletedWith,omitzero"`
	ReplaceWith  []string            `json:"replaceWith,omitempty"`
	Taint        bool                `json:"taint,omitzero"`
}

// entry is a journal entry as the client writes it.
type entry struct {
	Version    int            `json:"version"`
	Kind       int            `json:"kind"`
	Sequence   int64          `json:"sequenceID"`
	Operation  int64          `json:"operationID"`
	RemoveOld  *int64         `json:"removeOld"`
	RemoveNew  *int64         `json:"removeNew"`
	PendingOld *int64         `json:"pendingReplacementOld,omitzero"`
	PendingNew *int64         `json:"pendingReplacementNew,omitzero"`
	DeleteOld  *int64         `json:"deleteOld,omitzero"`
	DeleteNew  *int64         `json:"deleteNew,omitzero"`
	State      *state         `json:"state,omitzero"`
	Pending    *operation     `json:"operation,omitzero"`
	Refresh    bool           `json:"isRefresh,omitzero"`
	Provider   jsontext.Value `json:"secretsProvider,omitzero"`
	Snapshot   *deployment    `json:"newSnapshot,omitzero"`
	Snippets   jsontext.Value `json:"snippets,omitzero"`
	Reference  string         `json:"extensionRef,omitzero"`
	Extension  jsontext.Value `json:"extension,omitzero"`

	elided bool // the client does not wait for the answer
}

type operation struct {
	Resource state  `json:"resource"`
	Type     string `json:"type"`
}

type deployment struct {
	Manifest   jsontext.Value            `json:"manifest,omitzero"`
	Provider   jsontext.Value            `json:"secrets_providers,omitzero"`
	Resources  []state                   `json:"resources"`
	Operations []operation               `json:"pending_operations,omitempty"`
	Metadata   jsontext.Value            `json:"metadata,omitzero"`
	Snippets   jsontext.Value            `json:"snippets,omitzero"`
	Extensions map[string]jsontext.Value `json:"extensions,omitempty"`
}

type untyped struct {
	Version    int        `json:"version"`
	Features   []string   `json:"features,omitempty"`
	Deployment deployment `json:"deployment"`
}

// thing is a resource of the model's world: the state, and where the journal has it.
type thing struct {
	state
	index int64 // in the base, or -1
	op    int64 // the operation that added it, or 0
}

// engine is a small model of an engine with its step generator, written against the
// rules that a program's run obeys and not against replay: it keeps the world as it
// should be after each entry.
type engine struct {
	t       *rapid.T
	base    []byte
	world   []*thing
	entries []entry
	after   []world // the world after each entry
	seq, op int64
	open    map[int64]*operation
	creates []operation // creations under way in the base
	renamed map[string]string
	names   []map[string]string // renamed after each entry
	version int
	refresh bool // a refresh was seen: dangling references are removed
}

// world is what must be in a deployment.
type world struct {
	resources  []string // one line each, sorted
	operations []string
}

var providerRaw = jsontext.Value(`{"type":"service","state":{"url":"https://ipuka.example.com","owner":"acme","project":"web","stack":"dev"}}`)

const rootURN = "urn:pulumi:dev::web::pulumi:pulumi:Stack::web-dev"

func ptr(n int64) *int64 { return &n }

func (g *engine) chance(percent int, what string) bool {
	return rapid.IntRange(0, 99).Draw(g.t, what) < percent
}

// inputs are spelled in ways that a decoder and encoder would change.
func (g *engine) inputs() jsontext.Value {
	g.version++
	return jsontext.Value(fmt.Sprintf(`{"z":1.0,"a":12345678901234567890,"esc":"\u003c\/v%d","e":1E2}`, g.version))
}

func (g *engine) line(s state, known func(string) bool) string {
	name := func(urn string) string {
		for g.renamed[urn] != "" {
			urn = g.renamed[urn]
		}
		return urn
	}
	keep := func(urns []string) []string {
		var out []string
		for _, urn := range urns {
			if urn = name(urn); known(urn) {
				out = append(out, urn)
			}
		}
		return out
	}
	properties := ""
	for _, key := range []string{"a", "z"} {
		if urns := keep(s.Properties[key]); len(urns) > 0 {
			properties += key + strings.Join(urns, ",")
		}
	}
	with := keep([]string{s.DeletedWith})
	return fmt.Sprintf("%s %s delete=%t pending=%t parent=%s %s deps=%v props=%s with=%v replace=%v in=%s out=%v",
		name(s.URN), s.ID, s.Delete, s.Pending, name(s.Parent), s.Provider, keep(s.Dependencies), properties, with, keep(s.ReplaceWith), s.Inputs, s.Outputs)
}

// lines describes a deployment in the same words as the model's world.
func (g *engine) lines(resources []state, operations []operation) world {
	urns := map[string]bool{}
	for _, s := range resources {
		urn := s.URN
		for g.renamed[urn] != "" {
			urn = g.renamed[urn]
		}
		urns[urn] = true
	}
	var w world
	for _, s := range resources {
		w.resources = append(w.resources, g.line(s, func(urn string) bool { return urns[urn] }))
	}
	for _, o := range operations {
		w.operations = append(w.operations, describe(o))
	}
	slices.Sort(w.resources)
	slices.Sort(w.operations)
	return w
}

// emit records an entry and the world after it.
func (g *engine) emit(e entry) {
	g.seq++
	e.Version, e.Sequence = 1, g.seq
	g.entries = append(g.entries, e)
	var states []state
	for _, t := range g.world {
		states = append(states, t.state)
	}
	operations := slices.Clone(g.creates)
	for _, o := range g.open {
		if o != nil {
			operations = append(operations, *o)
		}
	}
	g.names = append(g.names, maps.Clone(g.renamed))
	g.after = append(g.after, g.lines(states, operations))
}

func (g *engine) begin(typ string, s state) int64 {
	g.op++
	e := entry{Kind: 0, Operation: g.op, elided: typ == "same"}
	g.open[g.op] = nil
	if typ != "same" && typ != "" {
		o := &operation{s, typ}
		e.Pending, g.open[g.op] = o, o
	}
	g.emit(e)
	return g.op
}

func (g *engine) find(urn string) *thing {
	for _, t := range g.world {
		if t.URN == urn && !t.Delete {
			return t
		}
	}
	return nil
}

// names sets the reference pair of an entry to a thing.
func (t *thing) names(old, new **int64) {
	if t.index >= 0 {
		*old = ptr(t.index)
	} else {
		*new = ptr(t.op)
	}
}

func (g *engine) remove(t *thing) {
	g.world = slices.DeleteFunc(g.world, func(o *thing) bool { return o == t })
}

// newBase invents the deployment that the update starts from.
func (g *engine) newBase() {
	root := state{URN: rootURN, Type: "pulumi:pulumi:Stack", Inputs: jsontext.Value(`{}`)}
	provider := state{URN: "urn:pulumi:dev::web::pulumi:providers:aws::default", Custom: true, ID: "prov1", Type: "pulumi:providers:aws", Inputs: g.inputs()}
	states := []state{root, provider}
	for i := range rapid.IntRange(0, 6).Draw(g.t, "base size") {
		states = append(states, g.invent(fmt.Sprintf("old%d", i), states, provider))
	}
	var all []state
	for _, s := range states {
		if s.Custom && s.Provider != "" && g.chance(15, "leftover") {
			left := s
			left.ID, left.Delete = s.ID+"-left", true
			all = append(all, left)
		} else if s.Custom && s.Provider != "" && g.chance(10, "pending") {
			s.Pending = true
		}
		all = append(all, s)
	}
	d := deployment{Manifest: jsontext.Value(`{"time":"2026-01-02T03:04:05Z","magic":"","version":""}`), Resources: all}
	if g.chance(20, "old operations") {
		d.Operations = []operation{
			{state{URN: "urn:pulumi:dev::web::aws:s3:Bucket::lost", Custom: true, Type: "aws:s3:Bucket"}, "creating"},
			{state{URN: "urn:pulumi:dev::web::aws:s3:Bucket::seen", Custom: true, Type: "aws:s3:Bucket", ID: "x"}, "updating"},
		}
		g.creates = d.Operations[:1]
	}
	for i, s := range all {
		g.world = append(g.world, &thing{state: s, index: int64(i)})
	}
	g.base = encode(untyped{Version: 3, Deployment: d})
}

// invent makes a resource that may refer to those before it.
func (g *engine) invent(name string, before []state, provider state) state {
	s := state{Inputs: g.inputs(), Parent: rootURN}
	s.Type, s.Custom = "aws:s3:Bucket", true
	if g.chance(25, "component") {
		s.Type, s.Custom = "my:index:Group", false
	}
	parentType := ""
	var custom []string
	for _, b := range before {
		if b.URN != rootURN && b.Type != "pulumi:providers:aws" && g.chance(25, "child") {
			s.Parent = b.URN
			parentType = strings.Split(b.URN, "::")[2] + "$"
		}
		if b.URN != rootURN && b.Provider != "" {
			custom = append(custom, b.URN)
		}
	}
	s.URN = "urn:pulumi:dev::web::" + parentType + s.Type + "::" + name
	if s.Custom {
		s.ID = "id-" + name
		s.Provider = provider.URN + "::" + provider.ID
	}
	s.Taint = g.chance(4, "taint")
	for _, urn := range custom {
		if g.chance(30, "depends") {
			s.Dependencies = append(s.Dependencies, urn)
			s.Properties = map[string][]string{"a": {urn}, "z": nil}
		}
		if g.chance(5, "deletedWith") {
			s.DeletedWith = urn
		}
		if g.chance(5, "replaceWith") {
			s.ReplaceWith = append(s.ReplaceWith, urn)
		}
	}
	return s
}

func encode(v any) []byte {
	raw, err := json.Marshal(v, json.Deterministic(true), jsontext.PreserveRawStrings(true))
	if err != nil {
		panic(err)
	}
	return raw
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func parse(t failer, entries []entry) []journal.Entry {
	t.Helper()
	parsed := make([]journal.Entry, len(entries))
	for i, e := range entries {
		var err error
		if parsed[i], err = journal.Parse(encode(e)); err != nil {
			t.Fatalf("entry %s: %v", encode(e), err)
		}
	}
	return parsed
}

func decode(t failer, raw []byte) untyped {
	t.Helper()
	var u untyped
	if err := json.Unmarshal(raw, &u); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return u
}

var _ failer = (*testing.T)(nil)
