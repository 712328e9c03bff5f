package journal_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// generate runs an update of a random kind.
func generate(t *rapid.T) *engine {
	g := &engine{t: t, open: map[int64]*operation{}, renamed: map[string]string{}}
	g.newBase()
	g.emit(entry{Kind: 6, Provider: providerRaw, elided: true})
	if g.chance(20, "snippets") {
		g.emit(entry{Kind: 9, Snippets: jsontext.Value(`[{"uuid":"u1","name":"n","type":"t","code":"c","descriptor":{"name":"d"}}]`)})
	}
	if g.chance(15, "rebase") {
		g.rebase()
	}
	if g.chance(30, "refresh") {
		g.refreshAll()
	}
	if g.chance(85, "program") {
		g.program()
	}
	g.interleave()
	return g
}

// interleave lets steps begin earlier, as they do when an engine works in parallel.
func (g *engine) interleave() {
	order := make([]int, len(g.entries))
	for i := range order {
		order[i] = i
	}
	for i := range order {
		for j := i; j > 0 && g.entries[order[j]].Kind == 0 && g.entries[order[j-1]].Kind < 5 && g.chance(40, "earlier"); j-- {
			order[j], order[j-1] = order[j-1], order[j]
		}
	}
	entries, after, names := g.entries, g.after, g.names
	g.entries, g.after, g.names = nil, nil, nil
	last := 0 // the last entry that is not a begin
	operations := map[int64]string{}
	for n, i := range order {
		e := entries[i]
		e.Sequence = int64(n + 1)
		switch {
		case e.Pending != nil:
			operations[e.Operation] = describe(*e.Pending)
		case e.Kind != 0:
			last = i
			delete(operations, e.Operation)
		}
		w := world{resources: after[last].resources, operations: slices.Collect(maps.Values(operations))}
		for _, o := range g.creates {
			w.operations = append(w.operations, describe(o))
		}
		slices.Sort(w.operations)
		g.entries, g.after, g.names = append(g.entries, e), append(g.after, w), append(g.names, names[last])
	}
}

func describe(o operation) string { return o.Type + " " + o.Resource.URN + " " + o.Resource.ID }

// rebase sends a base of the client's own, as it does when providers change.
func (g *engine) rebase() {
	d := &deployment{Provider: providerRaw}
	for _, t := range g.world {
		if t.Type == "pulumi:providers:aws" {
			t.Inputs = g.inputs()
		}
		d.Resources = append(d.Resources, t.state)
	}
	d.Operations = g.creates
	g.emit(entry{Kind: 5, Snapshot: d})
}

// refreshAll reads every resource of the base again and makes the outcome the base.
func (g *engine) refreshAll() {
	for _, t := range slices.Clone(g.world) {
		op := g.begin("", t.state)
		delete(g.open, op)
		e := entry{Kind: 3, Operation: op, Refresh: true}
		t.names(&e.RemoveOld, &e.RemoveNew)
		switch {
		case g.chance(5, "refresh fails"):
			e.Kind = 2
			broken := t.state
			e.State = &broken
		case t.Provider != "" && g.chance(15, "vanished"):
			g.refresh = true
			g.vanish(t)
		default:
			g.refresh = true
			if t.Provider != "" && g.chance(40, "drifted") {
				g.version++
				t.Outputs = map[string]int{"v": g.version}
			}
			s := t.state
			e.State = &s
		}
		g.emit(e)
	}
	for i, t := range g.world {
		t.index, t.op = int64(i), 0
	}
	g.emit(entry{Kind: 7})
}

// vanish removes a thing; what referred to it no longer does.
func (g *engine) vanish(t *thing) {
	g.remove(t)
	for _, o := range g.world {
		if o.URN == t.URN {
			return
		}
	}
	for _, o := range g.world {
		if o.Parent == t.URN {
			o.Parent = t.Parent
		}
		o.Dependencies = without(o.Dependencies, t.URN)
		o.ReplaceWith = without(o.ReplaceWith, t.URN)
		if o.DeletedWith == t.URN {
			o.DeletedWith = ""
		}
		if len(without(o.Properties["a"], t.URN)) < len(o.Properties["a"]) {
			o.Properties = map[string][]string{"a": without(o.Properties["a"], t.URN)}
		}
	}
}

func without(urns []string, urn string) []string {
	return slices.DeleteFunc(slices.Clone(urns), func(s string) bool { return s == urn })
}

// program registers what it wants to be there, then deletes the rest.
func (g *engine) program() {
	var registered []state
	olds := slices.Clone(g.world)
	for _, t := range olds {
		if t.Delete {
			continue
		}
		if t.Provider != "" && g.chance(20, "forgotten") || t.Type == "my:index:Group" && g.chance(10, "forgotten") {
			continue
		}
		if s, ok := g.register(t, registered); ok {
			registered = append(registered, s)
		}
		if g.chance(20, "create") {
			if s, ok := g.create(registered); ok {
				registered = append(registered, s)
			}
		}
	}
	if g.chance(30, "extension") {
		g.op++
		g.emit(entry{Kind: 8, Operation: g.op, Reference: "ref", Extension: jsontext.Value(`{"name":"x","version":"1.0.0","value":"AA=="}`)})
	}
	for _, s := range registered {
		if t := g.find(s.URN); t != nil && !s.Custom && g.chance(60, "outputs") {
			g.version++
			g.op++
			t.Outputs = map[string]int{"v": g.version}
			e := entry{Kind: 4, Operation: g.op, elided: false}
			t.names(&e.RemoveOld, &e.RemoveNew)
			s := t.state
			e.State = &s
			g.emit(e)
		}
	}
	g.deletes(registered)
}

// goal is what the program wants of an old resource: it may refer to what the program
// has registered and to nothing else.
func (g *engine) goal(t *thing, registered []state) (state, bool) {
	s := t.state
	s.Aliases = nil
	s.Pending = false
	current := func(urn string) string {
		for g.renamed[urn] != "" {
			urn = g.renamed[urn]
		}
		return urn
	}
	have := func(urn string) bool {
		return slices.ContainsFunc(registered, func(r state) bool { return r.URN == urn })
	}
	filter := func(urns []string) (out []string) {
		for _, urn := range urns {
			if urn = current(urn); have(urn) {
				out = append(out, urn)
			}
		}
		return out
	}
	if s.Parent != "" {
		if s.Parent = current(s.Parent); !have(s.Parent) {
			return s, false // the program has no such parent any more
		}
	}
	s.Dependencies, s.ReplaceWith = filter(s.Dependencies), filter(s.ReplaceWith)
	s.Properties = nil
	if len(s.Dependencies) > 0 {
		s.Properties = map[string][]string{"a": s.Dependencies[:1]}
	}
	if with := filter([]string{s.DeletedWith}); len(with) == 0 {
		s.DeletedWith = ""
	} else {
		s.DeletedWith = with[0]
	}
	return s, true
}

// register brings an old resource to what the program wants, and reports whether the
// program can go on with it.
func (g *engine) register(t *thing, registered []state) (state, bool) {
	s, ok := g.goal(t, registered)
	if !ok {
		return s, false
	}
	if s.Provider != "" && !slices.ContainsFunc(registered, func(r state) bool { return r.URN+"::"+r.ID == s.Provider }) {
		return s, false
	}
	if t.Pending {
		return g.recreate(t, s)
	}
	whole := len(s.Dependencies) == len(t.Dependencies) && len(s.ReplaceWith) == len(t.ReplaceWith) && (s.DeletedWith == "") == (t.DeletedWith == "")
	if whole && s.Custom && s.Provider != "" && g.chance(10, "refresh before update") {
		t = g.refreshOne(t)
	}
	plan := rapid.IntRange(0, 9).Draw(g.t, "plan")
	switch {
	case plan <= 4 || t.URN == rootURN:
		if s.Provider != "" && g.chance(10, "rename") {
			g.rename(t, &s)
		}
		return g.step("same", t, s, nil)
	case plan <= 6 || !s.Custom || s.Provider == "":
		s.Inputs = g.inputs()
		return g.step("updating", t, s, nil)
	case plan == 7:
		s.Inputs, s.ID = g.inputs(), fmt.Sprintf("%s-r%d", s.ID, g.op)
		typ := "creating"
		if g.chance(20, "import replacement") {
			typ = "importing"
		}
		return g.step(typ, t, s, func(e *entry) {
			e.RemoveOld, e.RemoveNew = nil, nil
			t.names(&e.DeleteOld, &e.DeleteNew)
		})
	case plan == 8:
		if !g.delete(t, true) {
			return s, false
		}
		return g.recreate(t, s)
	}
	s.Inputs = g.inputs()
	return g.step("reading", t, s, nil)
}

func (g *engine) rename(t *thing, s *state) {
	parts := strings.Split(s.URN, "::")
	parts[3] = fmt.Sprintf("new%d", g.op)
	s.URN = strings.Join(parts, "::")
	s.Aliases = []string{t.URN, t.URN}
}

// step is begin and end of what leaves one state. Without refs the old is replaced.
func (g *engine) step(typ string, old *thing, s state, refs func(*entry)) (state, bool) {
	op := g.begin(typ, s)
	delete(g.open, op)
	e := entry{Kind: 1, Operation: op, State: &s, elided: typ == "same"}
	if old != nil {
		old.names(&e.RemoveOld, &e.RemoveNew)
	}
	if refs != nil {
		refs(&e)
	}
	if typ != "same" && g.chance(8, "step fails") {
		e.Kind = 2
		g.emit(e)
		return s, false
	}
	if len(s.Aliases) > 0 && g.renamed[old.URN] == "" {
		g.renamed[old.URN] = s.URN
	}
	switch {
	case old == nil:
	case e.DeleteOld != nil || e.DeleteNew != nil:
		old.Delete = true
	default:
		g.remove(old)
	}
	g.world = append(g.world, &thing{state: s, index: -1, op: op})
	g.emit(e)
	return s, true
}

// recreate makes again what was deleted for its replacement.
func (g *engine) recreate(t *thing, s state) (state, bool) {
	s.Inputs, s.ID = g.inputs(), fmt.Sprintf("%s-n%d", s.ID, g.op)
	return g.step("creating", t, s, nil)
}

func (g *engine) create(registered []state) (state, bool) {
	i := slices.IndexFunc(registered, func(s state) bool { return s.Type == "pulumi:providers:aws" })
	if i < 0 || registered[0].URN != rootURN {
		return state{}, false
	}
	if g.chance(10, "skipped") { // a create that targets leave out
		op := g.begin("same", state{})
		delete(g.open, op)
		g.emit(entry{Kind: 1, Operation: op, elided: true})
		return state{}, false
	}
	return g.step("creating", nil, g.invent(fmt.Sprintf("made%d", g.op), registered, registered[i]), nil)
}

// refreshOne is a refresh as part of the program's run: the state becomes new.
func (g *engine) refreshOne(t *thing) *thing {
	op := g.begin("", t.state)
	delete(g.open, op)
	g.version++
	g.refresh = true
	s := t.state
	s.Outputs = map[string]int{"v": g.version}
	e := entry{Kind: 1, Operation: op, State: &s, Refresh: true}
	t.names(&e.RemoveOld, &e.RemoveNew)
	g.remove(t)
	now := &thing{state: s, index: -1, op: op}
	g.world = append(g.world, now)
	g.emit(e)
	return now
}

// delete deletes a resource, for good or to create it again.
func (g *engine) delete(t *thing, again bool) bool {
	op := g.begin("deleting", t.state)
	delete(g.open, op)
	e := entry{Kind: 1, Operation: op}
	switch {
	case g.chance(8, "delete fails"):
		e.Kind = 2
	case again:
		t.names(&e.PendingOld, &e.PendingNew)
		t.Pending = true
	default:
		t.names(&e.RemoveOld, &e.RemoveNew)
		g.remove(t)
	}
	g.emit(e)
	return e.Kind == 1
}

// deletes deletes what is left over, dependents first. What something still refers
// to stays.
func (g *engine) deletes(registered []state) {
	done := map[string]bool{}
	for _, s := range registered {
		done[s.URN] = true
	}
	left := slices.Clone(g.world)
	slices.Reverse(left)
	for _, t := range left {
		if t.Provider == "" && t.Custom || t.URN == rootURN || !t.Delete && done[t.URN] {
			continue
		}
		if g.needed(t) || g.chance(20, "crash here") {
			continue
		}
		if t.Pending {
			op := g.begin("", t.state)
			delete(g.open, op)
			e := entry{Kind: 1, Operation: op}
			t.names(&e.RemoveOld, &e.RemoveNew)
			g.remove(t)
			g.emit(e)
			continue
		}
		g.delete(t, false)
	}
}

// needed reports whether something refers to t that no other of its URN can serve.
func (g *engine) needed(t *thing) bool {
	names := func(s state) []string {
		all := append([]string{s.Parent, s.DeletedWith}, s.Dependencies...)
		all = append(all, s.ReplaceWith...)
		return append(all, s.Properties["a"]...)
	}
	for _, o := range g.world {
		if o == t {
			continue
		}
		if o.URN == t.URN && o.Delete == t.Delete {
			return false
		}
	}
	for _, o := range g.world {
		if o != t && slices.Contains(names(o.state), t.URN) {
			return true
		}
	}
	return false
}
