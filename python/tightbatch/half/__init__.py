"""Half precision: conversion, and a report of what it would lose."""
