//go:build !linux

package watch

import "os"

func openDir(path string) (*os.File, error) { return os.Open(path) }

func isMount(string) bool { return false }
