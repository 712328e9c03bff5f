//go:build race

package saml_test

const raced = true
