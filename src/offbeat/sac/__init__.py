"""Soft Actor-Critic with random crops."""
