package rbac

import (
	"hash/maphash"
	"maps"
)

// shards is an immutable map in up to 1,024 parts, so that a changed copy shares all
// but one of them. The zero value is empty.
type shards[K comparable, V any] struct {
	root *[fan]*[fan]map[K]V
}

const fan = 32

// seed keys the hashes, so that nobody can choose names that share one part.
var seed = maphash.MakeSeed()

func hash(text string) uint64 { return maphash.String(seed, text) }

func (s shards[K, V]) find(h uint64, key K) (V, bool) {
	v, ok := s.part(h)[key]
	return v, ok
}

// part returns the part that all keys of a hash are in. It must not be changed.
func (s shards[K, V]) part(h uint64) map[K]V {
	if s.root == nil || s.root[h%fan] == nil {
		return nil
	}
	return s.root[h%fan][h/fan%fan]
}

// with returns a copy in which edit has changed the part of h.
func (s shards[K, V]) with(h uint64, edit func(part map[K]V)) shards[K, V] {
	part := maps.Clone(s.part(h))
	if part == nil {
		part = make(map[K]V, 1)
	}
	edit(part)
	root, branch := new([fan]*[fan]map[K]V), new([fan]map[K]V)
	if s.root != nil {
		*root = *s.root
	}
	if old := root[h%fan]; old != nil {
		*branch = *old
	}
	if len(part) == 0 {
		part = nil
	}
	branch[h/fan%fan], root[h%fan] = part, branch
	return shards[K, V]{root}
}

// set changes s itself. Only somebody who is still making s may call it.
func (s *shards[K, V]) set(h uint64, key K, value V) {
	if s.root == nil {
		s.root = new([fan]*[fan]map[K]V)
	}
	if s.root[h%fan] == nil {
		s.root[h%fan] = new([fan]map[K]V)
	}
	part := &s.root[h%fan][h/fan%fan]
	if *part == nil {
		*part = make(map[K]V, 1)
	}
	(*part)[key] = value
}

// parts calls fn with the hash of each part that has something in it.
func (s shards[K, V]) parts(fn func(h uint64, part map[K]V)) {
	if s.root == nil {
		return
	}
	for i, branch := range s.root {
		if branch == nil {
			continue
		}
		for j, part := range branch {
			if len(part) > 0 {
				fn(uint64(i+j*fan), part)
			}
		}
	}
}
