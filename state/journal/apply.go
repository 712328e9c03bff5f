package journal

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ipuka/ipuka/internal/errs"
)

// replay is the state between two entries.
type replay struct {
	base *deployment
	old  []mark          // what happened to each base resource
	new  []*addition     // what the update added, in order
	ops  map[int64]place // where the resource of each operation is
	open map[int64]*Entry

	extensions map[string][]byte
	touched    bool // a step was seen
	refreshed  bool
	bytes      bool

	// For a journal that is not sound.
	lenient bool
	gap     *Gap
	unsure  bool             // this entry's references need checking
	begun   map[int64]*Entry // the begin of every operation
	byURN   map[string][]int // base resources, made when needed
	skipped []string
	problem string
}

type mark struct {
	dropped, condemned, pending bool
	state                       *resource // what replaced it in place
}

type addition struct {
	resource *resource
	dropped  bool
}

// place is a resource of the base or an added one.
type place struct {
	old   bool
	index int
}

// run applies the entries, which are in sequence, to start.
func (r *replay) run(start *deployment, entries []*Entry) error {
	r.begun = map[int64]*Entry{}
	r.extensions = map[string][]byte{}
	r.adopt(start)
	for i, e := range entries {
		r.unsure = r.lenient && (r.gap == nil || e.sequence > r.gap.Missing)
		if err := r.apply(e, i == len(entries)-1); err != nil {
			return errs.Errorf(errs.Invalid, "journal entry %d: %w", e.sequence, err)
		}
	}
	return nil
}

// adopt makes d the base and forgets the steps that led to it.
func (r *replay) adopt(d *deployment) {
	own := *d
	r.base = &own
	r.old = make([]mark, len(d.resources))
	r.new = nil
	r.ops = map[int64]place{}
	r.open = map[int64]*Entry{}
	r.byURN = nil
}

func (r *replay) apply(e *Entry, last bool) error {
	r.bytes = r.bytes || e.byteString
	switch e.kind {
	case Begin:
		r.touched = true
		r.open[e.operation], r.begun[e.operation] = e, e
	case Success:
		return r.success(e)
	case Failure:
		// What a failed step carries is what it wanted, not what is.
		delete(r.open, e.operation)
	case RefreshSuccess:
		return r.refresh(e)
	case Outputs:
		return r.outputs(e)
	case Write:
		return r.write(e)
	case SecretsProvider:
		r.provide(e.provider)
	case Rebuilt:
		return r.rebuild(last)
	case Parameterize:
		r.extensions[e.extension.name] = e.extension.value
	case Snippets:
		r.base.snippets = e.snippets
	}
	return nil
}

func (r *replay) success(e *Entry) error {
	r.touched = true
	delete(r.open, e.operation)
	r.refreshed = r.refreshed || e.refresh
	if e.state != nil {
		r.add(e.operation, e.state)
	}
	for _, c := range []struct {
		reference
		added bool
		do    func(place) error
	}{
		{e.removeOld, false, r.drop},
		{e.removeNew, true, r.drop},
		{e.deleteOld, false, r.condemn},
		{e.deleteNew, true, r.condemn},
		{e.pendingOld, false, r.await},
		{e.pendingNew, true, r.await},
	} {
		if !c.ok {
			continue
		}
		if p, ok, err := r.find(e, c.n, c.added); err != nil {
			return err
		} else if ok {
			if err := c.do(p); err != nil {
				return err
			}
		} else if e.state == nil {
			r.skip(e, "what it removes or marks is not certain, so it stays")
		}
	}
	return nil
}

// refresh is a resource read again outside of the program's run. It keeps its place,
// which keeps the order right.
func (r *replay) refresh(e *Entry) error {
	r.touched, r.refreshed = true, true
	delete(r.open, e.operation)
	if e.state != nil {
		return r.inPlace(e, true)
	}
	for _, c := range []struct {
		reference
		added bool
	}{{e.removeOld, false}, {e.removeNew, true}} {
		if !c.ok {
			continue
		}
		p, ok, err := r.find(e, c.n, c.added)
		if err != nil {
			return err
		}
		if !ok {
			r.skip(e, "which resource has vanished is not certain, so none is removed")
			continue
		}
		if err := r.drop(p); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) outputs(e *Entry) error {
	r.touched = true
	return r.inPlace(e, false)
}

// inPlace replaces the resource that e refers to by its state. With own, later
// entries may name the resource by e's operation.
func (r *replay) inPlace(e *Entry, own bool) error {
	for _, c := range []struct {
		reference
		added bool
	}{{e.removeOld, false}, {e.removeNew, true}} {
		if !c.ok {
			continue
		}
		p, ok, err := r.find(e, c.n, c.added)
		switch {
		case err != nil:
			return err
		case !ok && c.added:
			r.add(c.n, e.state)
			p = r.ops[c.n]
		case !ok:
			r.add(e.operation, e.state)
			p = r.ops[e.operation]
		default:
			r.replace(p, e.state)
		}
		if own {
			r.ops[e.operation] = p
		}
	}
	return nil
}

// write replaces the base by one that the client computed before its first step.
func (r *replay) write(e *Entry) error {
	if r.touched {
		if r.lenient {
			r.skip(e, "the base is not rewritten after a step")
			return nil
		}
		return fmt.Errorf("kind %d comes after a step", e.kind)
	}
	provider := r.base.provider
	r.adopt(e.snapshot)
	if r.base.provider == nil {
		r.base.provider = provider // the secrets in the new base need one
	}
	return nil
}

func (r *replay) provide(p *secretsProvider) {
	if old := r.base.provider; old != nil && old.typ == p.typ && sameJSON(old.state, p.state) {
		return
	}
	r.base.provider = p
}

func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := jsontext.Value(bytes.Clone(a)), jsontext.Value(bytes.Clone(b))
	return x.Compact() == nil && y.Compact() == nil && bytes.Equal(x, y)
}

// rebuild makes the state so far the base. The client numbers its base anew then;
// when the update had added resources, the two numberings need not agree.
func (r *replay) rebuild(last bool) error {
	if len(r.new) > 0 && !last && !r.lenient {
		return fmt.Errorf("kind %d replaces %d new resources and is not the last entry", Rebuilt, len(r.new))
	}
	d, err := r.build()
	if err != nil {
		return err
	}
	r.touched = true
	r.adopt(d)
	return nil
}

func (r *replay) add(operation int64, state *resource) {
	r.ops[operation] = place{index: len(r.new)}
	r.new = append(r.new, &addition{resource: state})
}

func (r *replay) drop(p place) error {
	if p.old {
		r.old[p.index].dropped = true
	} else {
		r.new[p.index].dropped = true
	}
	return nil
}

// condemn marks a resource that was replaced and is still to be deleted.
func (r *replay) condemn(p place) (err error) {
	if p.old {
		r.old[p.index].condemned = true
		return nil
	}
	a := r.new[p.index]
	a.resource, err = a.resource.flagged(true, false)
	return err
}

// await marks a resource that was deleted and is still to be created again.
func (r *replay) await(p place) (err error) {
	if p.old {
		r.old[p.index].pending = true
		return nil
	}
	a := r.new[p.index]
	a.resource, err = a.resource.flagged(false, true)
	return err
}

func (r *replay) replace(p place, state *resource) {
	if p.old {
		r.old[p.index].state = state
	} else {
		r.new[p.index].resource = state
	}
}

// find returns the resource that a reference of e means. Without error and without
// success there is none that can be told, which only a journal that is not sound
// leads to.
func (r *replay) find(e *Entry, n int64, added bool) (place, bool, error) {
	if added {
		if p, ok := r.ops[n]; ok {
			return p, true, nil
		}
		if !r.lenient {
			return place{}, false, fmt.Errorf("operation %d, which it names, has no success before it", n)
		}
		p, ok := r.identify(e, -1)
		return p, ok, nil
	}
	known := n < int64(len(r.base.resources))
	switch {
	case known && !r.unsure:
		return place{old: true, index: int(n)}, true, nil
	case known:
		p, ok := r.identify(e, int(n))
		return p, ok, nil
	case !r.lenient:
		return place{}, false, fmt.Errorf("it names base resource %d, the base has %d", n, len(r.base.resources))
	}
	p, ok := r.identify(e, -1)
	return p, ok, nil
}

func (r *replay) skip(e *Entry, why string) {
	r.skipped = append(r.skipped, fmt.Sprintf("journal entry %d: %s", e.sequence, why))
}
