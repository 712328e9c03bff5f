package journal

import (
	"cmp"
	"maps"
	"slices"
)

// build makes the deployment of the state so far. New resources stand before what is
// left of the base: that keeps the list in topological order, since a new resource
// never needs one of the base that has not become new before it.
func (r *replay) build() (*deployment, error) {
	d := *r.base
	d.resources = make([]*resource, 0, len(r.new)+len(r.base.resources))
	for _, a := range r.new {
		if !a.dropped {
			d.resources = append(d.resources, a.resource)
		}
	}
	added := len(d.resources)
	for i, old := range r.base.resources {
		switch m := r.old[i]; {
		case m.dropped:
		case m.state != nil:
			d.resources = append(d.resources, m.state)
		default:
			kept, err := old.flagged(m.condemned, m.pending)
			if err != nil {
				return nil, err
			}
			d.resources = append(d.resources, kept)
		}
	}
	d.operations = r.operations()
	d.bytes = r.bytes || r.base.bytes && len(d.resources)+len(d.operations) > 0
	d.extensions = r.allExtensions()
	return &d, r.repair(&d, added)
}

// repair makes the references of d right.
func (r *replay) repair(d *deployment, added int) error {
	problem, rename, err := d.normalise()
	if err != nil {
		return err
	}
	if r.problem == "" {
		r.problem = problem
	}
	if !r.lenient && !r.refreshed {
		return nil
	}
	g := r.graveyard(rename)
	if !r.lenient {
		return d.prune(g, false)
	}
	if err := d.deduplicate(added); err != nil {
		return err
	}
	d.order()
	return d.prune(g, true)
}

// operations returns what is under way, oldest first, and what the base knows of
// creations that never ended: only the user can tell what became of those.
func (r *replay) operations() []*operation {
	open := make([]*Entry, 0, len(r.open))
	for _, e := range r.open {
		if e.pending != nil {
			open = append(open, e)
		}
	}
	slices.SortFunc(open, func(a, b *Entry) int { return cmp.Compare(a.sequence, b.sequence) })
	var operations []*operation
	for _, e := range open {
		operations = append(operations, e.pending)
	}
	for _, o := range r.base.operations {
		if o.typ == creating {
			operations = append(operations, o)
		}
	}
	return operations
}

// allExtensions returns the extensions of the base and the new ones; the base wins.
func (r *replay) allExtensions() []member {
	fresh := maps.Clone(r.extensions)
	for _, m := range r.base.extensions {
		delete(fresh, m.name)
	}
	all := slices.Clone(r.base.extensions)
	for _, name := range slices.Sorted(maps.Keys(fresh)) {
		all = append(all, member{name, fresh[name]})
	}
	return all
}
