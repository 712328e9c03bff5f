package journal

import "slices"

// identity is what an entry says about the resource that it means.
type identity struct {
	urns []string // its URN, and its aliases where they count
	id   string
	byID bool // the ID counts
	live bool // it is not one that waits for its deletion
}

func (w identity) is(r *resource) bool {
	return slices.Contains(w.urns, r.urn) && (!w.byID || r.id == w.id) && (!w.live || r.live())
}

// identify returns the base resource that e means by what e says about it. Index n,
// or -1, is where e says that it stands.
func (r *replay) identify(e *Entry, n int) (place, bool) {
	w, known := r.wanted(e)
	if !known {
		return place{old: true, index: n}, n >= 0 && r.plausible(e, n)
	}
	if n >= 0 && !r.old[n].dropped && w.is(r.base.resources[n]) {
		return place{old: true, index: n}, true
	}
	if r.byURN == nil {
		r.byURN = make(map[string][]int, len(r.base.resources))
		for i, old := range r.base.resources {
			r.byURN[old.urn] = append(r.byURN[old.urn], i)
		}
	}
	for _, urn := range w.urns {
		for _, i := range r.byURN[urn] {
			if !r.old[i].dropped && w.is(r.base.resources[i]) {
				return place{old: true, index: i}, true
			}
		}
	}
	return place{}, false
}

// wanted returns the identity of the resource that e replaces, removes or marks.
func (r *replay) wanted(e *Entry) (identity, bool) {
	if e.state != nil && e.kind == Success && !e.refresh {
		// A replacement has an ID of its own, and an alias may have renamed it.
		return identity{urns: append([]string{e.state.urn}, e.state.aliases...), live: true}, true
	}
	if e.state != nil {
		return identity{urns: []string{e.state.urn}, id: e.state.id, byID: true}, true
	}
	if begin := r.begun[e.operation]; begin != nil && begin.pending != nil {
		target := begin.pending.resource
		return identity{urns: []string{target.urn}, id: target.id, byID: true}, true
	}
	return identity{}, false
}

// plausible reports whether e, which says nothing about the resource, can mean base
// resource n. Two steps are of this sort: a refresh that found nothing, and the
// removal of a resource that was to be created again. Both announce themselves; a
// removal without a begin is of neither sort.
func (r *replay) plausible(e *Entry, n int) bool {
	if r.begun[e.operation] == nil {
		return false
	}
	return e.refresh || e.kind == RefreshSuccess || r.base.resources[n].pending || r.old[n].pending
}

// graveyard is what is known of resources that are no longer there.
type graveyard struct {
	parents   map[string]string    // by URN
	providers map[string]*resource // by reference
	begun     map[string]*resource // providers whose creation began, by URN
}

func (r *replay) graveyard(rename func(string) string) *graveyard {
	g := &graveyard{
		parents:   make(map[string]string, len(r.base.resources)),
		providers: map[string]*resource{},
		begun:     map[string]*resource{},
	}
	bury := func(gone *resource) {
		g.parents[rename(gone.urn)] = rename(gone.parent)
		if isProvider(gone.typ) {
			g.providers[gone.reference()] = gone
		}
	}
	for _, old := range r.base.resources {
		bury(old)
	}
	for _, a := range r.new {
		bury(a.resource)
	}
	if !r.lenient {
		return g
	}
	for _, e := range r.begun {
		if e.pending != nil && isProvider(e.pending.resource.typ) {
			g.begun[e.pending.resource.urn] = e.pending.resource
		}
	}
	return g
}

// ancestor returns the nearest ancestor of the vanished urn that exists, or "".
func (g *graveyard) ancestor(urn string, exists map[string]bool) string {
	var path []string
	found := ""
	for at := urn; at != ""; at = g.parents[at] {
		if exists[at] {
			found = at
			break
		}
		if len(path) > len(g.parents) {
			break // a circle
		}
		path = append(path, at)
	}
	for _, at := range path {
		g.parents[at] = found // the next child need not climb
	}
	return found
}

// provider returns a provider resource that urn::id refers to.
func (g *graveyard) provider(urn, id string) (*resource, error) {
	if gone := g.providers[urn+"::"+id]; gone != nil {
		return gone.with(unflagged(gone)...)
	}
	if begun := g.begun[urn]; begun != nil {
		return begun.with(edit{"id", quote(nil, id)})
	}
	parts, _ := splitURN(urn)
	return parseResource(objectOf([]member{
		{"urn", quote(nil, urn)},
		{"custom", []byte("true")},
		{"id", quote(nil, id)},
		{"type", quote(nil, parts.base())},
	}))
}

func unflagged(r *resource) []edit {
	var edits []edit
	if r.condemned {
		edits = append(edits, edit{"delete", nil})
	}
	if r.pending {
		edits = append(edits, edit{"pendingReplacement", nil})
	}
	return edits
}

// deduplicate leaves one live resource for each URN that an added resource has. The
// first added resources of the list are the added ones, oldest first.
func (d *deployment) deduplicate(added int) error {
	winner := map[string]int{}
	dropped := make([]bool, len(d.resources))
	retire := func(older, newer int) (err error) {
		o := d.resources[older]
		if o.pending || o.id == d.resources[newer].id {
			dropped[older] = true
			return nil
		}
		d.resources[older], err = o.flagged(true, false)
		return err
	}
	for i, r := range d.resources {
		if !r.live() {
			continue
		}
		other, taken := winner[r.urn]
		var err error
		switch {
		case i < added:
			winner[r.urn] = i
			if taken {
				err = retire(other, i)
			}
		case taken:
			err = retire(i, other)
		}
		if err != nil {
			return err
		}
	}
	kept := d.resources[:0]
	for i, r := range d.resources {
		if !dropped[i] {
			kept = append(kept, r)
		}
	}
	d.resources = kept
	return nil
}

// order brings the resources into topological order and changes no order that is one.
// In a circle the resource that comes first in the list is placed last.
func (d *deployment) order() {
	s := &sorter{
		resources: d.resources,
		state:     make([]uint8, len(d.resources)),
		byURN:     make(map[string]int, len(d.resources)),
		providers: map[string]int{},
		placed:    make(map[string]bool, len(d.resources)),
		out:       make([]*resource, 0, len(d.resources)),
	}
	for i, r := range d.resources {
		if first, ok := s.byURN[r.urn]; !ok || r.live() && !d.resources[first].live() {
			s.byURN[r.urn] = i
		}
		if isProvider(r.typ) {
			s.providers[r.reference()] = i
		}
	}
	for i := range d.resources {
		s.place(i)
	}
	d.resources = s.out
}

type sorter struct {
	resources []*resource
	state     []uint8 // 0: not seen, 1: its references are being placed, 2: placed
	byURN     map[string]int
	providers map[string]int
	placed    map[string]bool // URNs and provider references
	out       []*resource
}

// place appends resource i after everything it refers to.
func (s *sorter) place(i int) {
	if s.state[i] != 0 {
		return
	}
	s.state[i] = 1
	r := s.resources[i]
	r.references(func(urn string) {
		if j, ok := s.byURN[urn]; ok && !s.placed[urn] {
			s.place(j)
		}
	})
	if r.provider != "" && !s.placed[r.provider] {
		if j, ok := s.providers[r.provider]; ok {
			s.place(j)
		} else if urn, _, ok := r.providerParts(); ok && !s.placed[urn] {
			if j, ok := s.byURN[urn]; ok {
				s.place(j)
			}
		}
	}
	s.state[i] = 2
	s.out = append(s.out, r)
	s.placed[r.urn] = true
	if isProvider(r.typ) {
		s.placed[r.reference()] = true
	}
}
